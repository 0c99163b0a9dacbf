"""Colours and axes of the plots of experiments."""

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

# Told apart with colour-vision deficiencies too (Okabe and Ito).
COLOURS = ('#0072b2', '#e69f00', '#009e73', '#d55e00', '#cc79a7', '#56b4e9', '#8c6d31', '#000000')

GRID, GREY = '#e4e6e8', '#606468'


def new_figure(width: float, height: float) -> Figure:
    """Return an empty figure of so many inches."""
    return Figure(figsize=(width, height), dpi=140, layout='constrained')


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


def legend_below(figure: Figure, axis: Axes) -> None:
    """Name what the axis shows below it, in at most four columns that fit the figure."""
    handles, names = axis.get_legend_handles_labels()
    columns = int(figure.get_figwidth() / (0.09 * max(map(len, names)) + 0.6))
    figure.legend(handles, names, frameon=False, loc='outside lower center', ncols=max(1, min(len(names), 4, columns)))


def distinct_colours(number: int) -> list:
    """Return so many colours, always the same for the same number."""
    if number <= len(COLOURS):
        return list(COLOURS[:number])
    if number <= 20:
        # The ten strong ones first, then their lighter twins.
        return [matplotlib.colormaps['tab20'](2 * place % 20 + place // 10) for place in range(number)]
    return [matplotlib.colormaps['hsv'](place / number) for place in range(number)]
