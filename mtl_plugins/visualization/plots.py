"""Colours, fonts, axes, pixels and files of plots."""

import functools
import logging
import warnings
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib import font_manager
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ft2font import FT2Font
from matplotlib.text import Text
from matplotlib.ticker import LogFormatter
from mmengine.logging import print_log
from PIL import Image, ImageFont

from mtl_plugins.errors import ConfigError
from mtl_plugins.utils.files import replacing

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


FORMATS = {'.png': 'PNG', '.jpg': 'JPEG', '.jpeg': 'JPEG', '.pdf': 'PDF'}

# Told apart with colour-vision deficiencies too (Okabe and Ito).
COLOURS = ('#0072b2', '#e69f00', '#009e73', '#d55e00', '#cc79a7', '#56b4e9', '#8c6d31', '#000000')

GRID, GREY = '#e4e6e8', '#606468'


def new_figure(width: float, height: float) -> Figure:
    """Return an empty figure of so many inches."""
    return Figure(figsize=(width, height), dpi=110, layout='constrained')


def tidy(axis: Axes, x: str | None = None, y: str | None = None, grid: str = 'both') -> None:
    """Label the axes and draw a grid, ``'x'``, ``'y'``, ``'both'`` or ``''``, behind the data, without a frame."""
    if x is not None:
        axis.set_xlabel(x)
    if y is not None:
        axis.set_ylabel(y)
    axis.set_axisbelow(True)
    if grid:
        axis.grid(axis=grid, color=GRID)
    axis.spines[['top', 'right']].set_visible(False)


def distinct_colours(number: int) -> list:
    """Return so many colours, always the same for the same number."""
    if number <= len(COLOURS):
        return list(COLOURS[:number])
    if number <= 20:
        # The ten strong ones first, then their lighter twins.
        return [matplotlib.colormaps['tab20'](2 * place % 20 + place // 10) for place in range(number)]
    return [matplotlib.colormaps['hsv'](place / number) for place in range(number)]


def to_array(figure: Figure) -> np.ndarray:
    """Draw a figure as uint8 RGB ``(height, width, 3)``."""
    _show_letters(figure)
    canvas = FigureCanvasAgg(figure)
    with warnings.catch_warnings():
        # Of every letter and every time it is drawn; `families_for` has warned once.
        warnings.filterwarnings('ignore', message='Glyph .* missing from')
        canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def _show_letters(figure: Figure) -> None:
    """Show names as they are, in a font that has their letters: between two ``$`` matplotlib would read a formula."""
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


def write_picture(path: Path, picture: Figure | np.ndarray) -> None:
    """Write a figure or uint8 RGB ``(height, width, 3)`` as PNG, JPEG or PDF, by its suffix; a PDF keeps lines and letters.

    Raises:
        ConfigError: If the suffix is none of these.
        UserError: If the operating system refuses.
    """
    file_format = FORMATS.get(path.suffix.lower())
    if file_format is None:
        raise ConfigError(f'A picture should end in {", ".join(FORMATS)}. Found {path}.')
    with replacing(path) as temporary:
        if isinstance(picture, Figure) and file_format == 'PDF':
            _show_letters(picture)
            # Without a date, the same figure is the same file.
            with warnings.catch_warnings():
                warnings.filterwarnings('ignore', message='Glyph .* missing from')
                picture.savefig(temporary, format='pdf', metadata=dict(CreationDate=None))
            return
        pixels = to_array(picture) if isinstance(picture, Figure) else picture
        Image.fromarray(pixels).save(temporary, format=file_format, **(dict(quality=90) if file_format == 'JPEG' else {}))
