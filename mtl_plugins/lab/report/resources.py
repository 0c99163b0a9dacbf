"""Costs of runs: parameters, multiplications, memory and time, from their records or work dirs."""

import contextlib
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from mtl_plugins.config.stored_config import recorded_config
from mtl_plugins.errors import ArgumentError, DataNotFoundError, UserError
from mtl_plugins.lab.runs.work_dirs import require_runs
from mtl_plugins.models.utils.build import build_from_data
from mtl_plugins.models.utils.model_stats import KINDS, count_flops_of_size, count_parameters, parameters_by_kind
from mtl_plugins.records.record import RunRecord
from mtl_plugins.records.training_log import read_scalars, wall_hours
from mtl_plugins.utils.data_files import printable
from mtl_plugins.visualization.plots import COLOURS

# Headings of the costs that a score may be plotted against.
COSTS = dict(
    parameters='parameters (M)',
    gflops='GFLOPs of an image',
    memory='memory (MiB)',
    epoch='seconds per epoch',
    hours='time (hours)',
)


@dataclass(frozen=True)
class RunCost:
    """A run's costs and scores. None is what the work dir does not know.

    Attributes:
        name: Of the run.
        path: Its work dir.
        parts: Parameters of each of ``KINDS``, in millions; None for a model that is no :class:`MultiTaskSegmentor`.
        parameters: Of the model, in millions.
        gflops: 10^9 floating point operations of one image forward, a multiply-add being two.
        memory: Most that the training needed, MiB: allocated on the GPU, or resident in its process.
        epoch: Seconds of an epoch of training, without validation.
        hours: Of the run, see :func:`wall_hours`.
        scores: All metrics of the best validation.
    """

    name: str
    path: Path
    parts: dict[str, float] | None
    parameters: float
    gflops: float
    memory: float | None
    epoch: float | None
    hours: float | None
    scores: dict[str, float]

    def describe(self) -> dict:
        return dict(vars(self), path=str(self.path), scores=dict(self.scores))


def read_costs(folders: Sequence[Path], size: tuple[int, int]) -> list[RunCost]:
    """The costs of all runs at or below some folders, see :func:`read_cost`.

    A run whose costs are not known, such as one without a config, is left out, with its sentence on standard error.

    Raises:
        DataNotFoundError: If there is no such folder, or no run.
        ConfigError: If the costs of none are known.
    """
    runs = require_runs(folders)
    costs, refused = [], []
    for run in runs:
        try:
            costs.append(read_cost(run, size))
        except UserError as error:
            refused.append(error)
    if not costs:
        raise refused[0]
    tell_left_out(refused)
    return costs


def tell_left_out(refused: Sequence[UserError]) -> None:
    """Print why some runs are left out."""
    for error in refused:
        print(f'left out: {printable(error)}', file=sys.stderr)


def read_cost(run: RunRecord, size: tuple[int, int]) -> RunCost:
    """The costs of a run.

    Args:
        run: The run.
        size: Height and width of the image whose operations are counted.

    Raises:
        ConfigError: If its config is not there, or describes no model that can be built.
    """
    model = build_from_data(recorded_config(run).model, f'The model of the work dir {run.path}')
    parts = parameters_by_kind(model) if hasattr(model, 'decode_head') and hasattr(model, 'neck') else None
    scalars = read_scalars(run.path)
    memory = [row['memory'] for row in scalars if row.get('memory')]
    done, epochs = (run.number(f'progress.{key}') or 0 for key in ('iter', 'epoch'))
    hours = None
    with contextlib.suppress(DataNotFoundError):
        hours = float(wall_hours(run.path, np.array(done)))
    return RunCost(
        name=printable(run.path.resolve().name),
        path=run.path,
        parts=None if parts is None else {kind: parts[kind] / 1e6 for kind in KINDS},
        parameters=count_parameters(model) / 1e6,
        gflops=count_flops_of_size(model, size) / 1e9,
        memory=run.data.get('memory_mib', max(memory, default=None)),
        epoch=run.data.get('epoch_seconds', 3600 * hours / epochs if hours and epochs else None),
        hours=hours or None,
        scores=dict(run.scores),
    )


HEADINGS = dict(
    parameters='all', gflops='GFLOPs', memory='memory (MiB)', epoch='epoch (s)', hours='time (h)'
)  # fmt: skip
_DIGITS = dict(parameters=2, gflops=1, memory=0, epoch=1, hours=2)


def resource_rows(costs: Sequence[Mapping], score: str) -> tuple[list[str], list[list[str]]]:
    """Headings and cells: parameters by part in millions, the other costs, the score; columns without a value are left out.

    Args:
        costs: As :meth:`RunCost.describe` gives them.
        score: Name of the metric.
    """
    parts = list(dict.fromkeys(kind for cost in costs for kind, value in (cost['parts'] or {}).items() if value))
    columns = {kind: [_format((cost['parts'] or {}).get(kind), 2) for cost in costs] for kind in parts}
    columns |= {heading: [_format(cost[key], _DIGITS[key]) for cost in costs] for key, heading in HEADINGS.items()}
    columns[score] = [_format(cost['scores'].get(score), 2) for cost in costs]
    shown = {heading: cells for heading, cells in columns.items() if any(cells)}
    return ['run', *shown], [[cost['name'], *cells] for cost, *cells in zip(costs, *shown.values(), strict=True)]


def rows_in_markdown(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table whose first column is text."""
    headings, *rows = [[printable(cell).replace('|', '\\|') for cell in row] for row in (headings, *rows)]
    lines = [f'| {" | ".join(headings)} |', '|---|' + '--:|' * (len(headings) - 1)]
    return '\n'.join([*lines, *(f'| {" | ".join(cells)} |' for cells in rows)]) + '\n'


def _format(value: float | None, digits: int) -> str:
    return '' if value is None else f'{value:.{digits}f}'


_FRONT, _GRID = '#9aa0a6', '#e4e6e8'


@dataclass(frozen=True)
class CostPoint:
    """A run; those of one name, such as several seeds, share a colour."""

    name: str
    cost: float
    score: float


def best_trade_offs(points: Sequence[CostPoint], lower_is_better: bool = False) -> list[CostPoint]:
    """The points that no cheaper or equally cheap one beats, by rising cost."""
    sign = -1 if lower_is_better else 1
    front: list[CostPoint] = []
    for point in sorted(points, key=lambda point: (point.cost, -sign * point.score)):
        if not front or sign * point.score > sign * front[-1].score:
            front.append(point)
    return front


def render_score_against_cost(
    points: Sequence[CostPoint], cost: str, score: str, lower_is_better: bool = False, title: str | None = None
) -> Figure:
    """Draw a point per run, and a dashed line through those that no cheaper run beats.

    Args:
        points: The runs.
        cost: What the horizontal axis shows.
        score: What the vertical one shows.
        lower_is_better: Whether the score is an error.
        title: Above everything.


    Raises:
        ArgumentError: If there is no point.
    """
    if not points:
        raise ArgumentError('`points` should hold at least one run. Found none.')
    names = list(dict.fromkeys(point.name for point in points))
    figure = Figure(figsize=(8.4, 4.8), dpi=110, layout='constrained')
    axis = figure.subplots()
    front = best_trade_offs(points, lower_is_better)
    places = dict(color=_FRONT, linestyle='--', linewidth=1, zorder=1)
    axis.step([point.cost for point in front], [point.score for point in front], where='post', **places)
    for number, name in enumerate(names):
        own = [point for point in points if point.name == name]
        # Eight colours that can be told apart, and then other shapes.
        look = dict(color=COLOURS[number % len(COLOURS)], marker='os^Dv'[number // len(COLOURS) % 5])
        axis.scatter([point.cost for point in own], [point.score for point in own], s=44, label=name, **look)
    axis.set_xlabel(cost)
    axis.set_ylabel(f'{score} (lower is better)' if lower_is_better else score)
    axis.margins(0.08)
    axis.set_xlim(left=0)
    axis.set_axisbelow(True)
    axis.grid(color=_GRID)
    for side in ('top', 'right'):
        axis.spines[side].set_visible(False)
    figure.legend(frameon=False, loc='outside right upper', fontsize=9)
    if title:
        figure.suptitle(title, fontsize=12)
    return figure
