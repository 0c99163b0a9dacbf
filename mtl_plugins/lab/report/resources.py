"""Costs of runs: parameters, multiplications, memory and time, from their records or work dirs."""

import contextlib
import sys
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mtl_plugins.errors import DataNotFoundError, UserError
from mtl_plugins.lab.report.groups import RunGroup
from mtl_plugins.lab.runs.training_log import wall_hours
from mtl_plugins.lab.runs.work_dirs import RunRecord, recorded_config
from mtl_plugins.lab.tables import Table
from mtl_plugins.models.utils.build import build_from_data
from mtl_plugins.models.utils.model_stats import KINDS, count_flops, count_parameters, parameters_by_kind
from mtl_plugins.utils.data_files import printable

# Headings of the costs that a score may be plotted against.
COSTS = dict(
    parameters='parameters (M)',
    gflops='GFLOPs of an image',
    memory='memory (MiB)',
    power='power (W)',
    epoch='seconds per epoch',
    hours='time (hours)',
)


@dataclass(frozen=True)
class RunCost:
    """A run's costs and scores. None is what the work dir does not know.

    Attributes:
        parts: Parameters of each of ``KINDS``, in millions; None for a model that is no :class:`MultiTaskSegmentor`.
        gflops: 10^9 floating point operations of one image forward, a multiply-add being two.
        memory: Most that the training needed, MiB: allocated on the GPU, or resident in its process.
        power: Mean of the GPU while it trained, W.
        epoch: Seconds of an epoch of training, without validation.
        hours: See :func:`wall_hours`.
    """

    name: str
    path: str
    parts: dict[str, float] | None
    parameters: float
    gflops: float
    memory: float | None
    power: float | None
    epoch: float | None
    hours: float | None
    scores: dict[str, float]


def read_costs(groups: Sequence[RunGroup], size: tuple[int, int]) -> list[RunCost]:
    """Return the costs of the first run of each group; those that are not known are left out, with a line on standard error."""
    costs = []
    for group in groups:
        try:
            costs.append(read_cost(group.name, group.runs[0], size))
        except UserError as error:
            print(f'left out: {printable(error)}', file=sys.stderr)
    return costs


def read_cost(name: str, run: RunRecord, size: tuple[int, int]) -> RunCost:
    """Measure the costs of a run, with the operations of an image of that height and width.

    Raises:
        ConfigError: If its config is not there, or describes no model that can be built.
    """
    model = build_from_data(recorded_config(run).model, f'The model of the work dir {run.path}')
    parts = parameters_by_kind(model) if hasattr(model, 'decode_head') and hasattr(model, 'neck') else None
    hours = None
    with contextlib.suppress(DataNotFoundError):
        hours = float(wall_hours(run.path, np.array(run.number('progress.iter') or 0)))
    return RunCost(
        name=name,
        path=run.path.name,
        parts=None if parts is None else {kind: parts[kind] / 1e6 for kind in KINDS},
        parameters=count_parameters(model) / 1e6,
        gflops=count_flops(model, size) / 1e9,
        memory=run.number('memory_mib'),
        power=run.number('power_watts'),
        epoch=run.number('epoch_seconds'),
        hours=hours or None,
        scores=dict(run.scores),
    )


_COLUMNS = dict(
    parameters=('all', 2), gflops=('GFLOPs', 1), memory=('memory (MiB)', 0), power=('power (W)', 0), epoch=('epoch (s)', 1),
    hours=('time (h)', 2),
)  # fmt: skip


def resource_table(costs: Sequence[RunCost], score: str, title: str) -> Table:
    """Tabulate parameters by part in millions, the other costs and a score, under its title; empty columns are left out."""
    parts = list(dict.fromkeys(kind for cost in costs for kind, value in (cost.parts or {}).items() if value))
    columns = {kind: [_format((cost.parts or {}).get(kind), 2) for cost in costs] for kind in parts}
    columns |= {heading: [_format(getattr(cost, key), digits) for cost in costs] for key, (heading, digits) in _COLUMNS.items()}
    columns[title] = [_format(cost.scores.get(score), 2) for cost in costs]
    shown = {printable(heading): cells for heading, cells in columns.items() if any(cells)}
    return Table(['run', *shown], [[printable(cost.name), *cells] for cost, *cells in zip(costs, *shown.values(), strict=True)])


def _format(value: float | None, digits: int) -> str:
    return '' if value is None else f'{value:.{digits}f}'
