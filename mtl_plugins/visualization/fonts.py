"""Fonts that have the letters of names: those that come with matplotlib and PIL lack Chinese, Japanese, Korean and others."""

import functools
import logging

from matplotlib import font_manager
from matplotlib.ft2font import FT2Font
from mmengine.logging import print_log
from PIL import ImageFont

USUAL = 'DejaVu Sans'
# It has a box with its code for every letter.
_NO_FONT = 'Last Resort'


def families_for(text: str) -> list[str]:
    """Return the families of fonts in which matplotlib draws a text; warn once if no installed font has all letters."""
    found = _font_for(_beyond(text))
    return [USUAL] if found is None else [USUAL, found.name]


def pil_font(text: str, size: int) -> ImageFont.FreeTypeFont:
    """Return the font in which PIL draws a text: its own one for Latin letters."""
    try:
        text.encode('latin-1')
        return ImageFont.load_default(size)
    except UnicodeEncodeError:
        found = _font_for(_beyond(text))
        return ImageFont.truetype(font_manager.findfont(USUAL) if found is None else found.fname, size)


def _beyond(text: str) -> frozenset[int]:
    return frozenset(map(ord, filter(str.isprintable, text))) - _letters(font_manager.findfont(USUAL))


@functools.cache
def _letters(path: str) -> frozenset[int]:
    return frozenset(FT2Font(path).get_charmap())


@functools.cache
def _font_for(letters: frozenset[int]) -> font_manager.FontEntry | None:
    if not letters:
        return None
    for font in sorted(font_manager.fontManager.ttflist, key=lambda font: (font.style != 'normal', abs(int(font.weight) - 400))):
        if not font.name.startswith(_NO_FONT) and letters <= _letters(font.fname):
            return font
    _warn_once()
    return None


@functools.cache
def _warn_once() -> None:
    print_log(
        'Some names have letters that no installed font has: pictures show boxes in their places. Install one that has them, '
        "such as the package fonts-noto-cjk, and delete the folder of matplotlib's cache.",
        'current',
        logging.WARNING,
    )
