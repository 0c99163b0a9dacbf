"""Fonts, pixels and files of plots."""

import functools
import logging
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from mmengine.logging import print_log
from PIL import Image, ImageFont

from mtl_plugins.errors import ConfigError
from mtl_plugins.utils.files import replacing

# Imported where it draws, which a training and most predictions do late or never.
if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from matplotlib.font_manager import FontEntry

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
        return ImageFont.truetype(_usual_font() if found is None else found.fname, size)


def _beyond(text: str) -> frozenset[int]:
    return frozenset(map(ord, filter(str.isprintable, text))) - _letters(_usual_font())


def _usual_font() -> str:
    from matplotlib.font_manager import findfont

    return findfont(USUAL)


@functools.cache
def _letters(path: str) -> frozenset[int]:
    from matplotlib.ft2font import FT2Font

    return frozenset(FT2Font(path).get_charmap())


@functools.cache
def _font_for(letters: frozenset[int]) -> 'FontEntry | None':
    if not letters:
        return None
    from matplotlib.font_manager import fontManager

    for font in sorted(fontManager.ttflist, key=lambda font: (font.style != 'normal', abs(int(font.weight) - 400))):
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


FORMATS = {'.png': 'PNG', '.jpg': 'JPEG', '.jpeg': 'JPEG', '.pdf': 'PDF'}


def to_array(figure: 'Figure') -> np.ndarray:
    """Draw a figure as uint8 RGB ``(height, width, 3)``."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    _show_letters(figure)
    canvas = FigureCanvasAgg(figure)
    with warnings.catch_warnings():
        # Of every letter and every time it is drawn; `families_for` has warned once.
        warnings.filterwarnings('ignore', message='Glyph .* missing from')
        canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def _show_letters(figure: 'Figure') -> None:
    """Show names as they are, in a font that has their letters: between two ``$`` matplotlib would read a formula."""
    from matplotlib.text import Text
    from matplotlib.ticker import LogFormatter

    formulae = set()
    for axes in figure.axes:
        for axis in (axes.xaxis, axes.yaxis):
            if isinstance(axis.get_major_formatter(), LogFormatter):
                formulae.update(axis.get_ticklabels(which='both'))
    for text in figure.findobj(Text):
        if text not in formulae:
            text.set_parse_math(False)
        if not text.get_text().isascii():
            text.set_family(families_for(text.get_text()))


def write_picture(path: Path, picture: 'Figure | np.ndarray') -> None:
    """Write a figure or uint8 RGB ``(height, width, 3)`` as PNG, JPEG or PDF, by its suffix; a PDF keeps lines and letters.

    Another suffix is a `ConfigError`.
    """
    file_format = FORMATS.get(path.suffix.lower())
    if file_format is None:
        raise ConfigError(f'A picture should end in {", ".join(FORMATS)}. Found {path}.')
    with replacing(path) as temporary:
        if file_format == 'PDF' and not isinstance(picture, np.ndarray):
            _show_letters(picture)
            # Without a date, the same figure is the same file.
            with warnings.catch_warnings():
                warnings.filterwarnings('ignore', message='Glyph .* missing from')
                picture.savefig(temporary, format='pdf', metadata=dict(CreationDate=None))
            return
        pixels = picture if isinstance(picture, np.ndarray) else to_array(picture)
        Image.fromarray(pixels).save(temporary, format=file_format, **(dict(quality=90) if file_format == 'JPEG' else {}))
