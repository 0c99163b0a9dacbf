"""What runs cost: parameters, multiplications, memory and time, from their records or the files of their work dirs."""

import contextlib
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mtl_plugins.config.options import recorded_config
from mtl_plugins.errors import DataNotFoundError, UserError
from mtl_plugins.lab.runs.work_dirs import find_runs
from mtl_plugins.models.utils.build import build_from_data
from mtl_plugins.models.utils.model_stats import KINDS, count_flops_of_size, count_parameters, parameters_by_kind
from mtl_plugins.records.record import RunRecord
from mtl_plugins.records.training_log import read_scalars, wall_hours
from mtl_plugins.utils.data_files import printable

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
    runs = find_runs(folders)
    if not runs:
        listed = ', '.join(map(str, folders))
        raise DataNotFoundError(f'There should be a work dir with run.json or metrics.csv at or below {listed}. Found none.')
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
