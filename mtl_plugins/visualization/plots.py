"""Colours, axes, pixels and files of plots."""

import warnings
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.ticker import LogFormatter
from PIL import Image

from mtl_plugins.errors import ConfigError
from mtl_plugins.utils.files import replacing
from mtl_plugins.visualization.fonts import families_for

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
