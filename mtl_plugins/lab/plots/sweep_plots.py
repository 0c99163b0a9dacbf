"""The plots of sweeps and reports, from arrays: scores over a parameter or a cost, and losses."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullFormatter

from mtl_plugins.lab.plots.style import COLOURS, GREY, distinct_colours, legend_below, new_figure, tidy

LOG_FROM = 10.0
# Values whose mean is drawn for a loss.
_SMOOTHING = 5
# Names in a legend beyond this are too many to tell apart: a colour scale says the score instead.
MAX_NAMED = 8


def render_scores(
    values: Sequence, scores: np.ndarray, groups: Sequence[str], *, parameter: str, metric: str, higher_is_better: bool = True
) -> Figure:
    """Draw the score of each trial against a parameter, a line through the means of each group, over names a bar for each.

    ``values`` are N numbers, on a logarithmic axis where they span a factor of 10 and more, or N names, one place each. A score
    of NaN is a cross on the lower edge (the upper one if lower is better); the best trial is ringed.
    """
    figure = new_figure(6.6, 4.0)
    axis = figure.subplots()
    numeric = all(isinstance(value, (int, float)) and not isinstance(value, bool) for value in values)
    ticks = sorted(set(values)) if numeric else list(dict.fromkeys(map(str, values)))
    places = np.array(values, float) if numeric else np.array([ticks.index(str(value)) for value in values], float)
    scores = np.asarray(scores, float)
    names = list(dict.fromkeys(groups))
    for row, (name, colour) in enumerate(zip(names, distinct_colours(len(names)), strict=True)):
        chosen = np.array([group == name for group in groups])
        known = chosen & ~np.isnan(scores)
        spots = np.unique(places[known])
        means = [scores[known & (places == spot)].mean() for spot in spots]
        if numeric:
            axis.plot(spots, means, '-', color=colour, linewidth=1.5, label=name or None)
        else:
            # Names have no order for a line to follow.
            axis.hlines(means, spots - 0.2, spots + 0.2, color=colour, linewidth=2.5, label=name or 'mean')
        axis.plot(places[known], scores[known], 'o', color=colour, markersize=5, alpha=0.8)
        failed = chosen & np.isnan(scores)
        # One above the other: groups often fail at the same place.
        edge = 0.02 + 0.045 * row if higher_is_better else 0.98 - 0.045 * row
        for place in places[failed]:
            axis.plot(place, edge, 'x', color=colour, markersize=7, transform=axis.get_xaxis_transform(), clip_on=False)
    if not np.isnan(scores).all():
        best = (np.nanargmax if higher_is_better else np.nanargmin)(scores)
        axis.plot(places[best], scores[best], 'o', color='black', fillstyle='none', markersize=11, label='best')
    if np.isnan(scores).any():
        axis.plot([], [], 'x', color=GREY, label='failed or pruned')
    if numeric and min(ticks) > 0 and max(ticks) / min(ticks) >= LOG_FROM:
        axis.set_xscale('log')
    elif not numeric or _have_room(ticks):
        axis.xaxis.set_major_locator(FixedLocator(ticks if numeric else range(len(ticks))))
        axis.set_xticklabels([f'{tick:g}' if numeric else tick for tick in ticks])
        axis.margins(x=0.08)
    if not numeric and sum(map(len, ticks)) > 70:
        for label in axis.get_xticklabels():
            label.set(rotation=25, horizontalalignment='right', rotation_mode='anchor')
    tidy(axis, parameter, f'{metric} {"↑" if higher_is_better else "↓"}')
    legend_below(figure, axis)
    return figure


def _have_room(ticks: Sequence[float]) -> bool:
    """Return True if each number may be written at its place: those that a sampler drew may be anywhere."""
    gaps = np.diff(ticks)
    return not gaps.size or gaps.min() >= (ticks[-1] - ticks[0]) / 15


def render_losses(
    curves: Sequence[tuple[str, np.ndarray, np.ndarray]], scores: np.ndarray, *, metric: str, higher_is_better: bool = True
) -> Figure:
    """Draw losses (K,) over iterations (K,) by name, on a logarithmic axis where they span a factor of 10 and more.

    More than eight are coloured by their scores, the better the darker; those without one are grey.
    """
    figure = new_figure(6.6, 4.0)
    axis = figure.subplots()
    scores = np.asarray(scores, float)
    named = len(curves) <= MAX_NAMED
    if named:
        colours = distinct_colours(len(curves))
    else:
        known = scores[~np.isnan(scores)]
        low, high = (known.min(), known.max()) if known.size else (0.0, 1.0)
        scale = ScalarMappable(Normalize(low, high), 'viridis_r' if higher_is_better else 'viridis')
        figure.colorbar(scale, ax=axis, label=metric)
        colours = [GREY if np.isnan(score) else scale.to_rgba(score) for score in scores]
    highest, lowest = 0.0, np.inf
    for (name, iterations, losses), colour in zip(curves, colours, strict=True):
        smooth = running_mean(np.asarray(losses, float), _SMOOTHING)
        # A line through one point would not be seen.
        marker = 'o' if len(smooth) == 1 else None
        axis.plot(iterations, smooth, color=colour, linewidth=1.4, marker=marker, label=name if named else None)
        finite = smooth[np.isfinite(smooth)]
        if finite.size:
            highest, lowest = max(highest, finite.max()), min(lowest, finite.min())
    if lowest > 0 and highest / lowest >= LOG_FROM:
        axis.set_yscale('log')
        axis.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f'{value:g}'))
        axis.yaxis.set_minor_formatter(NullFormatter())
    axis.set_xlim(left=0)
    tidy(axis, 'iteration', 'training loss')
    if named:
        legend_below(figure, axis)
    return figure


def running_mean(values: np.ndarray, length: int) -> np.ndarray:
    """Return the mean of each value (N,) and the ``length - 1`` before it, of fewer at the beginning."""
    sums = np.concatenate([[0.0], np.cumsum(values)])
    ends = np.arange(1, len(values) + 1)
    starts = np.maximum(ends - length, 0)
    return (sums[ends] - sums[starts]) / (ends - starts)


@dataclass(frozen=True)
class CostPoint:
    """A run; those of one name, such as several seeds, share a colour."""

    name: str
    cost: float
    score: float


def best_trade_offs(points: Sequence[CostPoint], lower_is_better: bool = False) -> list[CostPoint]:
    """Return the points that no cheaper or equally cheap one beats, by rising cost."""
    sign = -1 if lower_is_better else 1
    front: list[CostPoint] = []
    for point in sorted(points, key=lambda point: (point.cost, -sign * point.score)):
        if not front or sign * point.score > sign * front[-1].score:
            front.append(point)
    return front


def render_score_against_cost(points: Sequence[CostPoint], cost: str, score: str, lower_is_better: bool = False) -> Figure:
    """Draw a point per run, and a dashed line through those that no cheaper run beats; ``cost`` and ``score`` label the axes."""
    names = list(dict.fromkeys(point.name for point in points))
    figure = new_figure(6.6, 4.0)
    axis = figure.subplots()
    front = best_trade_offs(points, lower_is_better)
    places = dict(color='#9aa0a6', linestyle='--', linewidth=1, zorder=1)
    axis.step([point.cost for point in front], [point.score for point in front], where='post', **places)
    for number, name in enumerate(names):
        own = [point for point in points if point.name == name]
        # Eight colours that can be told apart, and then other shapes.
        look = dict(color=COLOURS[number % len(COLOURS)], marker='os^Dv'[number // len(COLOURS) % 5])
        axis.scatter([point.cost for point in own], [point.score for point in own], s=44, label=name, **look)
    tidy(axis, cost, f'{score} (lower is better)' if lower_is_better else score)
    axis.margins(0.08)
    axis.set_xlim(left=0)
    figure.legend(frameon=False, loc='outside right upper', fontsize=9)
    return figure
