"""Metrics of runs over iterations, epochs or time, and the conflict of tasks over training and by layer."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator

from mtl_plugins.errors import ConfigError, CorruptFileError, DataNotFoundError
from mtl_plugins.evaluation.scores import axis_title, find_score
from mtl_plugins.lab.plots.style import GREY, GRID, distinct_colours, new_figure, tidy
from mtl_plugins.lab.runs.training_log import read_scalars, wall_hours
from mtl_plugins.records.metrics_file import FILE_NAME, read_metrics

AXES = dict(iter='iteration', epoch='epoch', hours='time (hours)')
_STYLES = ('-', '--', ':', '-.')
# Points of a curve beyond which single ones are drawn faintly behind a moving average.
_MANY = 40


@dataclass(frozen=True)
class Curve:
    """Values of a metric, the iterations that were done by then, and their places on the axis."""

    name: str
    iterations: np.ndarray
    values: np.ndarray
    places: np.ndarray

    def reaches(self, value: float, lower_is_better: bool = False) -> int | None:
        """Return the iteration of the first value that is as good as ``value``; None if there is none."""
        good = self.values <= value if lower_is_better else self.values >= value
        return int(self.iterations[good.argmax()]) if good.any() else None

    def best(self, lower_is_better: bool = False) -> float:
        """Return the best value, NaN ignored."""
        return float((np.nanmin if lower_is_better else np.nanmax)(self.values))


@dataclass(frozen=True)
class Band:
    """The mean of several curves and what lies between the lowest and the highest of them, at the iterations they share."""

    places: np.ndarray
    mean: np.ndarray
    lowest: np.ndarray
    highest: np.ndarray


def read_curve(run: Path, metric: str, name: str, axis: str = 'iter') -> Curve:
    """Read a metric of a run: of the validations in its ``metrics.csv``, or else of the training in its log, such as ``loss``.

    ``metric`` may be what tables call it, as for :func:`find_score`; ``axis`` is one of ``AXES``.
    Epochs of the training's log are reckoned from those of the validations.

    Raises:
        DataNotFoundError: If the run has no validation and no log.
        ConfigError: If it has no such metric, or epochs are asked for and it counts none.
        CorruptFileError: If a value is not a number.
    """
    path = run / FILE_NAME
    rows, logged = read_metrics(path), read_scalars(run)
    if not rows and not logged:
        raise DataNotFoundError(f"'{path}' does not exist or is empty: '{run}' is no work dir of a run that was validated.")
    columns = dict.fromkeys(key for row in (*rows[:1], *logged[:1]) for key in row if key not in ('epoch', 'iter', 'step'))
    metric = find_score(metric, columns) or metric
    known = [row for row in rows if row.get(metric)] or [row for row in logged if metric in row]
    if not known:
        raise ConfigError(f"`--metric` should be one of those in '{path}' or the log: {', '.join(columns)}. Found {metric}.")
    try:
        iterations, values = ([kind(row[key]) for row in known] for kind, key in ((int, 'iter'), (float, metric)))
        last_epoch, last_iteration = (int(rows[-1].get(key) or 0) if rows else 0 for key in ('epoch', 'iter'))
    except (KeyError, ValueError, TypeError) as error:
        raise CorruptFileError(f"'{path}' holds something else than numbers ({error}).") from error
    if all(math.isnan(value) for value in values):
        raise ConfigError(f"'{metric}' is not a number at any validation in '{path}'.")
    places = np.array(iterations)
    if axis == 'epoch':
        if not last_epoch:
            raise ConfigError(
                f"'{path}' counts no epochs: the run was trained by iterations, or not validated yet. Draw it over iterations."
            )
        places = places * (last_epoch / last_iteration)
    elif axis == 'hours':
        places = wall_hours(run, places)
    return Curve(name, np.array(iterations), np.array(values), places)


def average(curves: Sequence[Curve]) -> Band:
    """Return the band of curves, such as those of several seeds, at the iterations that all have; none is a `ConfigError`."""
    shared = sorted(set.intersection(*(set(curve.iterations.tolist()) for curve in curves)))
    if not shared:
        raise ConfigError(f'The runs named {curves[0].name} have no iteration in common: give them different --names.')
    chosen = [np.isin(curve.iterations, shared) for curve in curves]
    values = np.stack([curve.values[mask] for curve, mask in zip(curves, chosen, strict=True)])
    places = np.stack([curve.places[mask] for curve, mask in zip(curves, chosen, strict=True)])
    return Band(places.mean(0), values.mean(0), values.min(0), values.max(0))


def render_curves(curves: Sequence[Curve], metric: str, value: float | None = None, axis: str = 'iter') -> Figure:
    """Draw the curves. Those of one name are one: their mean, and a band from the lowest to the highest of them.

    A dashed line is at ``value``; ``axis`` is that of :func:`read_curve`.
    """
    names = list(dict.fromkeys(curve.name for curve in curves))
    figure = new_figure(6.6, 4.0)
    chart = figure.subplots()
    for name, colour in zip(names, distinct_colours(len(names)), strict=True):
        own = [curve for curve in curves if curve.name == name]
        band = average(own)
        label = name if len(own) == 1 else f'{name} (mean of {len(own)})'
        marker = '.-' if len(band.places) <= 60 else '-'
        chart.plot(band.places, band.mean, marker, color=colour, label=label, linewidth=1.5)
        if len(own) > 1:
            chart.fill_between(band.places, band.lowest, band.highest, color=colour, alpha=0.2, linewidth=0)
    if value is not None:
        chart.axhline(value, color=GREY, linestyle='--', linewidth=1)
    tidy(chart, AXES[axis], axis_title(metric))
    chart.set_xlim(left=0)
    chart.legend(frameon=False)
    return figure


def render_affinity_over_training(runs: Sequence[Mapping[str, Curve]]) -> Figure:
    """Draw cosines of each pair of tasks and norms of each task over the iterations: a colour per pair, a dash per name.

    Runs of one name, such as several seeds, are one curve: their mean, and a band from the lowest to the highest. Long curves
    are moving averages over a fortieth of their points, the points faint behind them.
    """
    figure = new_figure(8.4, 6.4)
    axes = figure.subplots(2, 1, sharex=True)
    names = list(dict.fromkeys(curve.name for run in runs for curve in run.values()))
    for axis, kind, label in zip(axes, ('cosine/', 'norm/'), ('cosine of gradients', 'norm of gradients'), strict=True):
        keys = list(dict.fromkeys(key for run in runs for key in run if key.startswith(kind)))
        for key, colour in zip(keys, distinct_colours(len(keys)), strict=True):
            for number, name in enumerate(names):
                own = [run[key] for run in runs if key in run and run[key].name == name]
                if own:
                    text = key.removeprefix(kind) + (f', {name}' if len(names) > 1 else '')
                    _draw_curve(axis, own, colour, _STYLES[number % len(_STYLES)], text)
        tidy(axis, y=label)
        axis.legend(frameon=False, fontsize=9, loc='upper left', bbox_to_anchor=(1, 1))
    axes[0].axhline(0, color=GREY, linewidth=1, zorder=1)
    axes[0].set_ylim(-1.02, 1.02)
    axes[1].set_yscale('log')
    _set_ticks(axes[1].yaxis)
    axes[1].set_xlabel('iteration')
    axes[1].set_xlim(left=0)
    return figure


def _draw_curve(axis: Any, curves: Sequence[Curve], colour: str, style: str, label: str) -> None:
    band = average(curves)
    mean, count = band.mean, len(band.mean)
    if len(curves) > 1:
        label = f'{label} (mean of {len(curves)})'
        axis.fill_between(band.places, band.lowest, band.highest, color=colour, alpha=0.15, linewidth=0)
    if count > _MANY:
        width = count // _MANY
        if len(curves) == 1:
            axis.plot(band.places, mean, color=colour, alpha=0.25, linewidth=0.8)
        weights = np.convolve(np.ones(count), np.ones(width), mode='same')
        mean = np.convolve(mean, np.ones(width), mode='same') / weights
    axis.plot(band.places, mean, style, color=colour, label=label, linewidth=1.6)


def render_affinity_by_layer(measured: Mapping[str, Mapping[str, Any]]) -> Figure:
    """Draw for each pair of tasks the cosine and the ratio of norms of each part of the network, the input at the top.

    Bars are the standard deviation over the batches; left of the line is conflict. The last row is all that is shared.
    ``measured`` is what ``measure_layers`` gives, by the name of the checkpoint; each has a colour.
    """
    groups = list(dict.fromkeys(group for each in measured.values() for group in each['groups']))
    # The sum of all belongs below the parts, whichever checkpoint has which.
    groups = sorted(groups, key=lambda group: all(group == list(each['groups'])[-1] for each in measured.values()))
    pairs = list(
        dict.fromkeys(pair for each in measured.values() for group in each['groups'].values() for pair in group['pairs'])
    )
    height = 0.9 + len(pairs) * (0.9 + 0.26 * len(groups))
    figure = new_figure(9.6, height)
    axes = figure.subplots(len(pairs), 2, squeeze=False, sharey=True, sharex='col')
    offsets = np.linspace(-0.25, 0.25, len(measured)) if len(measured) > 1 else [0.0]
    for (left, right), pair in zip(axes, pairs, strict=True):
        for (name, each), colour, offset in zip(measured.items(), distinct_colours(len(measured)), offsets, strict=True):
            found = [(row, each['groups'][g]['pairs'].get(pair) or {}) for row, g in enumerate(groups) if g in each['groups']]
            found = [(row + offset, values) for row, values in found if values.get('cosine') is not None]
            rows = [row for row, _ in found]
            errors = [values['deviation'] or 0.0 for _, values in found]
            points = dict(fmt='o', color=colour, markersize=5)
            left.errorbar([v['cosine'] for _, v in found], rows, xerr=errors, elinewidth=1, label=name, **points)
            right.errorbar([v['ratio'] for _, v in found], rows, **points)
        first, second = pair.split('-', 1)
        left.axvline(0, color=GREY, linewidth=1, zorder=1)
        right.axvline(1, color=GREY, linewidth=1, zorder=1)
        left.set_title(pair, fontsize=10, loc='left')
        right.set_title(f'{first} / {second}', fontsize=10, loc='left')
        left.set_yticks(range(len(groups)), groups, fontsize=9)
        left.set_ylim(len(groups) - 0.4, -0.6)
        left.axhline(len(groups) - 1.5, color=GRID, zorder=0.5)
        right.axhline(len(groups) - 1.5, color=GRID, zorder=0.5)
        for axis in (left, right):
            tidy(axis)
    axes[-1, 0].set_xlim(-1.05, 1.05)
    axes[-1, 0].set_xlabel('cosine of gradients')
    axes[-1, 1].set_xlabel('ratio of norms of gradients')
    ratios = [
        pair['ratio'] or 1 for each in measured.values() for group in each['groups'].values() for pair in group['pairs'].values()
    ]
    # The line at 1 in the middle, and ticks beside it however small the differences are.
    limit = max(2.2, 1.3 * max(ratios), 1.3 / min(ratios))
    for axis in axes[:, 1]:
        axis.set_xscale('log')
        axis.set_xlim(1 / limit, limit)
        _set_ticks(axis.xaxis)
    if len(measured) > 1:
        handles = axes[0, 0].get_legend_handles_labels()
        figure.legend(*handles, frameon=False, loc='outside upper center', fontsize=9, ncols=min(len(measured), 3))
    return figure


def _set_ticks(axis: Any) -> None:
    """Plain numbers on a logarithmic axis."""
    axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.set_major_formatter(lambda value, _: f'{value:g}')
    axis.set_minor_locator(NullLocator())
