"""A metric of several runs over iterations, epochs or time, and when each run reaches a value."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from mtl_plugins.errors import ConfigError, CorruptFileError, DataNotFoundError
from mtl_plugins.records.metrics_file import FILE_NAME, read_metrics
from mtl_plugins.records.training_log import read_scalars, wall_hours
from mtl_plugins.visualization.plots import distinct_colours

AXES = dict(iter='iteration', epoch='epoch', hours='time (hours)')


@dataclass(frozen=True)
class Curve:
    """Values of a metric, the iterations that were done by then, and their places on the axis."""

    name: str
    iterations: np.ndarray
    values: np.ndarray
    places: np.ndarray

    def reaches(self, value: float, lower_is_better: bool = False) -> int | None:
        """The iteration of the first value that is as good as ``value``; None if there is none."""
        good = self.values <= value if lower_is_better else self.values >= value
        return int(self.iterations[good.argmax()]) if good.any() else None

    def best(self, lower_is_better: bool = False) -> float:
        """The best value of the curve, whatever is not a number left out."""
        return float((np.nanmin if lower_is_better else np.nanmax)(self.values))


@dataclass(frozen=True)
class Band:
    """The mean of several curves and what lies between the lowest and the highest of them, at the iterations they share."""

    places: np.ndarray
    mean: np.ndarray
    lowest: np.ndarray
    highest: np.ndarray


def read_curve(run: Path, metric: str, name: str, axis: str = 'iter') -> Curve:
    """A metric of a run: of the validations in its ``metrics.csv``, or else of the training in its log, such as ``loss``.

    Args:
        run: The work dir.
        metric: Column of ``metrics.csv``, or entry of the lines of ``scalars.json``. Where it is absent, no value is read.
        name: Of the curve.
        axis: One of ``AXES``. Epochs of the training's log are reckoned from those of the validations.

    Raises:
        DataNotFoundError: If the run has no validation and no log.
        ConfigError: If it has no such metric, or epochs are asked for and it counts none.
        CorruptFileError: If a value is not a number.
    """
    path = run / FILE_NAME
    rows, logged = read_metrics(path), read_scalars(run)
    if not rows and not logged:
        raise DataNotFoundError(f"'{path}' does not exist or is empty: '{run}' is no work dir of a run that was validated.")
    known = [row for row in rows if row.get(metric)] or [row for row in logged if metric in row]
    if not known:
        columns = dict.fromkeys(key for row in (*rows[:1], *logged[:1]) for key in row if key not in ('epoch', 'iter', 'step'))
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
                f"'{path}' should count epochs. Found none: the run was trained by iterations, or not validated yet."
            )
        places = places * (last_epoch / last_iteration)
    elif axis == 'hours':
        places = wall_hours(run, places)
    return Curve(name, np.array(iterations), np.array(values), places)


def average(curves: Sequence[Curve]) -> Band:
    """The band of curves, such as those of several seeds, at the iterations that all of them have.

    Raises:
        ConfigError: If there is no such iteration.
    """
    shared = sorted(set.intersection(*(set(curve.iterations.tolist()) for curve in curves)))
    if not shared:
        raise ConfigError(f'The runs named {curves[0].name} should share iterations. Found none: give them different --names.')
    chosen = [np.isin(curve.iterations, shared) for curve in curves]
    values = np.stack([curve.values[mask] for curve, mask in zip(curves, chosen, strict=True)])
    places = np.stack([curve.places[mask] for curve, mask in zip(curves, chosen, strict=True)])
    return Band(places.mean(0), values.mean(0), values.min(0), values.max(0))


def render_curves(curves: Sequence[Curve], metric: str, value: float | None = None, axis: str = 'iter') -> Figure:
    """Draw the curves. Those of one name are one: their mean, and a band from the lowest to the highest of them.

    Args:
        curves: As :func:`read_curve` gives them.
        metric: What they show.
        value: Where a dashed line lies; None draws none.
        axis: One of ``AXES``, as for :func:`read_curve`.


    Raises:
        ConfigError: If curves of one name share no iteration.
    """
    names = list(dict.fromkeys(curve.name for curve in curves))
    figure = Figure(figsize=(8.4, 4.8), dpi=110, layout='constrained')
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
        chart.axhline(value, color='#606468', linestyle='--', linewidth=1)
    chart.set_xlabel(AXES[axis])
    chart.set_ylabel(metric)
    chart.set_xlim(left=0)
    chart.grid(color='#e4e6e8')
    for side in ('top', 'right'):
        chart.spines[side].set_visible(False)
    chart.legend(frameon=False)
    return figure
