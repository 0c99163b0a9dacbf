"""Conflict between tasks: cosines and norms of their gradients over training, and by layer."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator

from mtl_plugins.errors import ArgumentError
from mtl_plugins.lab.plots.metric_curves import Curve, average
from mtl_plugins.visualization.plots import distinct_colours

_GRID, _ZERO = '#e4e6e8', '#606468'
_STYLES = ('-', '--', ':', '-.')
# Points of a curve beyond which single ones are drawn faintly behind a moving average.
_MANY = 40


def render_affinity_over_training(runs: Sequence[Mapping[str, Curve]]) -> Figure:
    """Cosines of each pair of tasks above norms of each task, over the iterations. A colour per pair and task, a dash per name.

    Runs of one name, such as several seeds, are one curve: their mean, and a band from the lowest to the highest. Long curves
    are moving averages over a fortieth of their points, the points faint behind them.

    Args:
        runs: Curves by ``cosine/<pair>`` and ``norm/<task>``, as ``read_affinity_curves`` gives them.

    Raises:
        ConfigError: If curves of one name share no iteration.
    """
    figure = Figure(figsize=(8.4, 6.4), dpi=110, layout='constrained')
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
        axis.set_ylabel(label)
        _tidy(axis)
        axis.legend(frameon=False, fontsize=9, loc='upper left', bbox_to_anchor=(1, 1))
    axes[0].axhline(0, color=_ZERO, linewidth=1, zorder=1)
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
    """For each pair of tasks the cosine and the ratio of norms of each part of the network, the input at the top.

    Bars are the standard deviation over the batches; what lies left of the line is conflict. The last row is the whole of what
    is shared.

    Args:
        measured: What ``measure_layers`` gives, by the name of the checkpoint; each a colour.

    Raises:
        ArgumentError: If there is none.
    """
    if not measured:
        raise ArgumentError('`measured` should hold at least one checkpoint. Found none.')
    groups = list(dict.fromkeys(group for each in measured.values() for group in each['groups']))
    # The sum of all belongs below the parts, whichever checkpoint has which.
    groups = sorted(groups, key=lambda group: all(group == list(each['groups'])[-1] for each in measured.values()))
    pairs = list(
        dict.fromkeys(pair for each in measured.values() for group in each['groups'].values() for pair in group['pairs'])
    )
    height = 0.9 + len(pairs) * (0.9 + 0.26 * len(groups))
    figure = Figure(figsize=(9.6, height), dpi=110, layout='constrained')
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
        left.axvline(0, color=_ZERO, linewidth=1, zorder=1)
        right.axvline(1, color=_ZERO, linewidth=1, zorder=1)
        left.set_title(pair, fontsize=10, loc='left')
        right.set_title(f'{first} / {second}', fontsize=10, loc='left')
        left.set_yticks(range(len(groups)), groups, fontsize=9)
        left.set_ylim(len(groups) - 0.4, -0.6)
        left.axhline(len(groups) - 1.5, color=_GRID, zorder=0.5)
        right.axhline(len(groups) - 1.5, color=_GRID, zorder=0.5)
        for axis in (left, right):
            _tidy(axis)
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


def _tidy(axis: Any) -> None:
    axis.set_axisbelow(True)
    axis.grid(color=_GRID)
    for side in ('top', 'right'):
        axis.spines[side].set_visible(False)
