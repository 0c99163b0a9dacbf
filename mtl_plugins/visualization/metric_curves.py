"""A metric of several runs over their iterations, and when each run reaches a value."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from mtl_plugins.errors import ConfigError, CorruptFileError, DataNotFoundError
from mtl_plugins.evaluation.metrics_file import FILE_NAME, read_metrics
from mtl_plugins.visualization.plots import distinct_colours, to_array


@dataclass(frozen=True)
class Curve:
    """Values of a metric, one per validation, and the iterations that were done by then."""

    name: str
    iterations: np.ndarray
    values: np.ndarray

    def reaches(self, value: float, lower_is_better: bool = False) -> int | None:
        """The iteration of the first validation that is as good as ``value``; None if there is none."""
        good = self.values <= value if lower_is_better else self.values >= value
        return int(self.iterations[good.argmax()]) if good.any() else None

    def best(self, lower_is_better: bool = False) -> float:
        """The best value of the curve, whatever is not a number left out."""
        return float((np.nanmin if lower_is_better else np.nanmax)(self.values))


def read_curve(run: Path, metric: str, name: str) -> Curve:
    """A metric of a run's ``metrics.csv``; validations without it are left out.

    Raises:
        DataNotFoundError: If the run has no such file, or no validation yet.
        ConfigError: If no validation has the metric.
        CorruptFileError: If a value is not a number.
    """
    path = run / FILE_NAME
    rows = read_metrics(path)
    if not rows:
        raise DataNotFoundError(f"'{path}' does not exist or is empty: '{run}' is no work dir of a run that was validated.")
    known = [row for row in rows if row.get(metric)]
    if not known:
        listed = ', '.join(column for column in rows[0] if column not in ('epoch', 'iter'))
        raise ConfigError(f"`--metric` should be one of those in '{path}': {listed}. Found {metric}.")
    try:
        iterations, values = ([kind(row[key]) for row in known] for kind, key in ((int, 'iter'), (float, metric)))
    except (KeyError, ValueError) as error:
        raise CorruptFileError(f"'{path}' holds something else than numbers ({error}).") from error
    if all(math.isnan(value) for value in values):
        raise ConfigError(f"'{metric}' is not a number at any validation in '{path}'.")
    return Curve(name, np.array(iterations), np.array(values))


def render_curves(curves: Sequence[Curve], metric: str, value: float | None = None) -> np.ndarray:
    """Draw the curves; those of one name share a colour. A dashed line at ``value``. uint8 RGB ``(height, width, 3)``."""
    names = list(dict.fromkeys(curve.name for curve in curves))
    colours = dict(zip(names, distinct_colours(len(names)), strict=True))
    figure = Figure(figsize=(8.4, 4.8), dpi=110, layout='constrained')
    axis = figure.subplots()
    labelled = set()
    for curve in curves:
        label = None if curve.name in labelled else curve.name
        labelled.add(curve.name)
        axis.plot(curve.iterations, curve.values, '.-', color=colours[curve.name], label=label, linewidth=1.5)
    if value is not None:
        axis.axhline(value, color='#606468', linestyle='--', linewidth=1)
    axis.set_xlabel('iteration')
    axis.set_ylabel(metric)
    axis.set_xlim(left=0)
    axis.grid(color='#e4e6e8')
    for side in ('top', 'right'):
        axis.spines[side].set_visible(False)
    axis.legend(frameon=False)
    return to_array(figure)
