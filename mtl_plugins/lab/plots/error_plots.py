"""Errors of one or several models by class, by distance and by place in the image, as charts."""

import textwrap
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter, NullLocator

from mtl_plugins.errors import ArgumentError
from mtl_plugins.visualization.plots import distinct_colours

# Values by the name of the model, by what they measure, such as 'IoU (%)'.
Panels = Mapping[str, Mapping[str, Sequence[float]]]
_GRID, _PIXELS, _ZERO = '#e4e6e8', '#9aa0a6', '#606468'
_MAP_WIDTH = 4.4


def render_class_bars(panels: Panels, classes: Sequence[str], title: str | None = None) -> Figure:
    """Draw a bar per class and model, one panel below the other for each of the measures.

    Args:
        panels: Of each measure and model a value per class, NaN for none, which is written in its place.
        classes: Names.
        title: Above everything.


    Raises:
        ArgumentError: If a model has another number of values.
    """
    _check(panels, len(classes))
    names = _names(panels)
    width = 0.8 / len(names)
    size = (max(len(classes) * (0.34 + 0.14 * len(names)) + 1.6, 5.5), 2.9 * len(panels) + 0.7)
    figure = Figure(figsize=size, dpi=110, layout='constrained')
    axes = figure.subplots(len(panels), squeeze=False, sharex=True)[:, 0]
    for axis, (measure, models) in zip(axes, panels.items(), strict=True):
        for number, (name, colour) in enumerate(names.items()):
            if name in models:
                places = np.arange(len(classes)) + (number - (len(names) - 1) / 2) * width
                axis.bar(places, models[name], width, color=colour, label=name)
                # No bar at all would read as no error.
                for place in places[np.isnan(np.asarray(models[name], float))]:
                    axis.text(place, 0, ' none', rotation=90, ha='center', va='bottom', color=_ZERO, fontsize=8)
        axis.set_ylabel(_in_two_lines(measure))
        axis.axhline(0, color=_ZERO, linewidth=0.8)
        axis.grid(axis='y', color=_GRID)
        _strip(axis)
    axes[-1].set_xticks(range(len(classes)), labels=classes, rotation=90 if len(classes) > 8 else 0)
    axes[-1].set_xlim(-0.6, len(classes) - 0.4)
    _finish(figure, axes[0], names, title)
    return figure


def render_error_by_range(
    panels: Panels, edges: np.ndarray, pixels: Sequence[int], unit: str, title: str | None = None
) -> Figure:
    """Draw errors over ranges of a quantity on a logarithmic axis, and below them how many labelled pixels each range has.

    Args:
        panels: Of each measure and model a value per range, NaN for none.
        edges: The ascending positive numbers around the K ranges, ``(K + 1,)``.
        pixels: In each range.
        unit: What the axis shows, such as 'distance (m)'.
        title: Above everything.


    Raises:
        ArgumentError: If a model has another number of values than there are ranges.
    """
    _check(panels, len(edges) - 1)
    names = _names(panels)
    figure = Figure(figsize=(8.4, 2.7 * len(panels) + 2.0), dpi=110, layout='constrained')
    axes = figure.subplots(len(panels) + 1, sharex=True, height_ratios=[2.7] * len(panels) + [1.1])
    middles = np.sqrt(np.asarray(edges[:-1]) * edges[1:])
    for axis, (measure, models) in zip(axes, panels.items(), strict=False):
        for name, values in models.items():
            axis.plot(middles, values, '.-', color=names[name], label=name, linewidth=1.6)
        if np.nanmin([np.nanmin(values, initial=0) for values in models.values()]) < 0:
            axis.axhline(0, color=_ZERO, linestyle='--', linewidth=1)
        else:
            axis.set_ylim(bottom=0)
        axis.set_ylabel(_in_two_lines(measure))
        axis.grid(color=_GRID)
        _strip(axis)
    total = max(sum(pixels), 1)
    axes[-1].stairs(100 * np.asarray(pixels) / total, edges, fill=True, color=_PIXELS)
    axes[-1].set_ylabel('pixels\n(%)')
    axes[-1].set_xscale('log')
    axes[-1].set_xlim(edges[0], edges[-1])
    axes[-1].set_xticks(edges, labels=[f'{edge:.3g}' for edge in edges])
    axes[-1].xaxis.set_minor_formatter(NullFormatter())
    axes[-1].xaxis.set_minor_locator(NullLocator())
    axes[-1].set_xlabel(unit)
    _strip(axes[-1])
    _finish(figure, axes[0], names, title)
    return figure


def render_error_by_place(panels: Panels, grid: tuple[int, int], aspect: float, title: str | None = None) -> Figure:
    """Draw mean errors over the places of the image as heat maps: a row per measure, a column per model.

    Measures that are negative somewhere are drawn from blue over white to red, the others from dark to bright.

    Args:
        panels: Of each measure and model a value per cell, row by row; NaN, drawn grey, for none.
        grid: Rows and columns.
        aspect: Width of the image over its height.
        title: Above everything.


    Raises:
        ArgumentError: If a model has another number of values than there are cells.
    """
    _check(panels, grid[0] * grid[1])
    names = _names(panels)
    height = _MAP_WIDTH / aspect
    size = (_MAP_WIDTH * len(names) + 1.2, (height + 0.4) * len(panels) + (0.4 if title else 0))
    figure = Figure(figsize=size, dpi=110, layout='constrained')
    axes = figure.subplots(len(panels), len(names), squeeze=False)
    for row, (measure, models) in zip(axes, panels.items(), strict=True):
        cells = {name: np.reshape(values, grid) for name, values in models.items()}
        lowest, highest = (extreme([extreme(each, initial=0) for each in cells.values()]) for extreme in (np.nanmin, np.nanmax))
        limit = max(-lowest, highest)
        colours = dict(cmap='bwr', vmin=-limit, vmax=limit) if lowest < 0 else dict(cmap='inferno', vmin=0, vmax=highest)
        drawn = None
        for axis, name in zip(row, names, strict=True):
            axis.set_axis_off()
            if name in cells:
                if len(names) > 1:
                    axis.set_title(textwrap.fill(name, 44), fontsize=10, pad=3)
                axis.imshow(np.ones((1, 1, 3)) * 0.75, extent=(0, aspect, 0, 1))
                drawn = axis.imshow(cells[name], extent=(0, aspect, 0, 1), interpolation='nearest', **colours)
        bar = figure.colorbar(drawn, ax=list(row), pad=0.01, fraction=0.05)
        bar.set_label(_in_two_lines(measure), fontsize=9)
        bar.outline.set_visible(False)
    if title:
        figure.suptitle(title, fontsize=12)
    return figure


def _names(panels: Panels) -> dict[str, str]:
    """Colours of the models of all panels."""
    names = list(dict.fromkeys(name for models in panels.values() for name in models))
    return dict(zip(names, distinct_colours(len(names)), strict=True))


def _check(panels: Panels, number: int) -> None:
    for measure, models in panels.items():
        for name, values in models.items():
            if len(values) != number:
                raise ArgumentError(f'`panels` should hold {number} values of {measure} for {name}. Found {len(values)}.')


def _in_two_lines(measure: str) -> str:
    return measure.replace(' (', '\n(') if len(measure) > 20 else measure


def _strip(axis) -> None:
    axis.set_axisbelow(True)
    for side in ('top', 'right'):
        axis.spines[side].set_visible(False)


def _finish(figure: Figure, axis, names: Mapping[str, str], title: str | None) -> None:
    if title:
        figure.suptitle(title, fontsize=12)
    if len(names) > 1:
        handles, labels = axis.get_legend_handles_labels()
        figure.legend(handles, labels, frameon=False, loc='outside lower center', ncols=min(len(names), 4))
