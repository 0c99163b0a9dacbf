"""A confusion matrix as a picture."""

import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from mtl_plugins.errors import ArgumentError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Beyond so many classes numbers would not be legible.
MAX_WRITTEN = 30
_CELL = 0.36
_LUMINANCE = (0.299, 0.587, 0.114)


def normalise_rows(matrix: np.ndarray) -> np.ndarray:
    """Return per cent of each label's pixels ``(C, C)`` float64; NaN in the row of a class without any."""
    total = matrix.sum(axis=1, keepdims=True).astype(np.float64)
    return np.divide(100.0 * matrix, total, out=np.full(matrix.shape, np.nan), where=total > 0)


def render_confusion_matrix(matrix: np.ndarray, classes: Sequence[str], title: str | None = None) -> 'Figure':
    """Draw a confusion matrix ``(C, C)`` of counts: a row per label, a column per prediction.

    Each cell shows its per cent of the row, which is grey for a class without a pixel. Another shape or a negative count is an
    `ArgumentError`.
    """
    shares = normalise_rows(check_counts('matrix', matrix, classes))
    texts = [[f'{cell:.0f}' if cell >= 0.5 else '' for cell in row] for row in shares]
    return draw_cells(shares, classes, 'Blues', (0, 100), 'per cent of the label', texts, title)


def check_counts(name: str, matrix: np.ndarray, classes: Sequence[str]) -> np.ndarray:
    """Return the matrix; another shape than that of the classes, or a negative count, is an `ArgumentError`."""
    matrix, number = np.asarray(matrix), len(classes)
    if matrix.shape != (number, number) or not number:
        raise ArgumentError(f'`{name}` should have the shape ({number}, {number}), a row per class. Found {matrix.shape}.')
    if matrix.min() < 0:
        raise ArgumentError(f'`{name}` should hold counts. Found {matrix.min()}.')
    return matrix


def draw_cells(
    cells: np.ndarray,
    classes: Sequence[str],
    colour_map: str,
    limits: tuple[float, float],
    unit: str,
    texts: Sequence[Sequence[str]],
    title: str | None,
) -> 'Figure':
    """Draw coloured cells, with ``texts`` in them unless there are too many."""
    import matplotlib
    from matplotlib.figure import Figure

    number = len(classes)
    written = number <= MAX_WRITTEN
    side = max(number * (_CELL if written else _CELL / 2), 1.8)
    # Inches. A layout engine would measure hundreds of texts, and take longer than the drawing.
    margin, right = 0.072 * max(map(len, classes)) + 0.42, 1.1
    title = '\n'.join(textwrap.fill(line, int((margin + side + right) / 0.1)) for line in (title or '').splitlines())
    top = 0.25 + 0.2 * (title.count('\n') + 1) if title else 0.15
    width, height = margin + side + right, margin + side + top
    figure = Figure(figsize=(width, height), dpi=110)
    axis = figure.add_axes((margin / width, margin / height, side / width, side / height))
    bar_axis = figure.add_axes(
        ((margin + side + 0.15) / width, (margin + 0.2 * side) / height, 0.16 / width, 0.6 * side / height)
    )
    colours = matplotlib.colormaps[colour_map].with_extremes(bad='#e2e4e6')
    image = axis.imshow(cells, cmap=colours, vmin=limits[0], vmax=limits[1], interpolation='nearest')
    axis.set_xticks(range(number), labels=classes, rotation=90, fontsize=9)
    axis.set_yticks(range(number), labels=classes, fontsize=9)
    axis.set_xlabel('prediction')
    axis.set_ylabel('label')
    borders = np.arange(1, number) - 0.5
    axis.hlines(borders, -0.5, number - 0.5, color='#f1f3f4', linewidth=0.6)
    axis.vlines(borders, -0.5, number - 0.5, color='#f1f3f4', linewidth=0.6)
    axis.tick_params(length=0)
    axis.spines[:].set_visible(False)
    is_dark = image.to_rgba(cells)[..., :3] @ _LUMINANCE < 0.55
    for (row, column), dark in np.ndenumerate(is_dark):
        if written and texts[row][column]:
            colour = 'white' if dark else '#20303c'
            axis.text(column, row, texts[row][column], ha='center', va='center', fontsize=7.5, color=colour)
    bar = figure.colorbar(image, cax=bar_axis)
    bar.set_label(unit)
    bar.outline.set_visible(False)
    if title:
        figure.suptitle(title, fontsize=12, y=1 - 0.1 / height, va='top')
    return figure
