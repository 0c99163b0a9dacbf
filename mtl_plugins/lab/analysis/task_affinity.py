"""Agreement of tasks: cosines and norms of their gradients, over training by the log, and by layer of a checkpoint."""

import itertools
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope
from torch import Tensor, nn

from mtl_plugins.config.links import set_data_root
from mtl_plugins.engine.runner import MultiTaskRunner
from mtl_plugins.errors import ConfigError, DataNotFoundError
from mtl_plugins.lab.plots.curves import Curve, read_curve
from mtl_plugins.lab.runs.training_log import read_scalars
from mtl_plugins.lab.runs.work_dirs import read_run, recorded_config
from mtl_plugins.models.utils.weights import load_pretrained
from mtl_plugins.registry import MODELS
from mtl_plugins.task_balancing.gradients import find_sharing, products_of

COSINE, NORM = 'balance/cosine/', 'balance/norm/'
ALL = 'all shared'
Products = dict[str, np.ndarray]


def read_affinity_curves(run: Path, name: str) -> dict[str, Curve]:
    """Curves by ``cosine/<task>-<task>`` and ``norm/<task>``; strategies that look at the losses alone log none."""
    logged = dict.fromkeys(key for row in read_scalars(run) for key in row if key.startswith((COSINE, NORM)))
    return {key.removeprefix('balance/'): read_curve(run, key, name) for key in logged}


def gradient_products(losses: Mapping[str, Tensor], parameters: Iterable[tuple[str, nn.Parameter]]) -> Products:
    """The products ``(T, T)`` of the gradients of ``T`` losses, float64, for each tensor that several of them reach, by its name.

    Rows of a tensor that serve one task each are not shared, see :func:`find_sharing`. A loss that does not reach a tensor has
    the gradient 0 there.
    """
    shared = {id(parameter) for parameter in find_sharing(list(losses.values())).shared}
    named = [(name, parameter) for name, parameter in parameters if id(parameter) in shared]
    tensors = [parameter for _, parameter in named]
    rows = [torch.autograd.grad(loss, tensors, retain_graph=True, materialize_grads=True) for loss in losses.values()]
    columns = zip(*rows, strict=True)
    return {
        name: products_of([[gradient] for gradient in column]).double().cpu().numpy()
        for (name, _), column in zip(named, columns, strict=True)
    }


def describe_groups(batches: Sequence[Products], tasks: Sequence[str], level: int) -> dict[str, dict[str, Any]]:
    """Cosines and norms of the gradients of each part of a network, from the products of several batches.

    A part is the tensors whose layers have the first ``level`` words of their names in common; its gradient is that of all of its
    tensors, one after another.

    Returns:
        For each part in the order of the tensors, :data:`ALL` being the last: ``tensors``; ``norms`` by task, means over the
        batches; and by ``<task>-<task>`` the ``cosine``, its ``deviation`` over the batches, the share of ``conflicts``, batches
        whose cosine is below 0, and ``ratio``, the norm of the first task divided by that of the second. Batches in which a
        gradient is 0 have no cosine; None where none has.
    """
    names = list(dict.fromkeys(name for batch in batches for name in batch))
    members: dict[str, list[str]] = {}
    for name in names:
        members.setdefault('.'.join(name.split('.')[:-1][:level]), []).append(name)
    members[ALL] = names
    groups = {}
    for group, own in members.items():
        sums = np.stack([sum((batch[name] for name in own if name in batch), np.zeros((len(tasks),) * 2)) for batch in batches])
        norms = np.sqrt(np.diagonal(sums, axis1=1, axis2=2))
        pairs = {
            f'{tasks[i]}-{tasks[j]}': _describe_pair(sums[:, i, j], norms[:, i], norms[:, j])
            for i, j in itertools.combinations(range(len(tasks)), 2)
        }
        groups[group] = dict(tensors=len(own), norms=dict(zip(tasks, norms.mean(0).tolist(), strict=True)), pairs=pairs)
    return groups


def _describe_pair(products: np.ndarray, first: np.ndarray, second: np.ndarray) -> dict[str, float | None]:
    known = (first > 0) & (second > 0)
    if not known.any():
        return dict(cosine=None, deviation=None, conflicts=None, ratio=None)
    cosines = np.clip(products[known] / (first[known] * second[known]), -1, 1)
    return dict(
        cosine=float(cosines.mean()),
        deviation=float(cosines.std(ddof=1)) if len(cosines) > 1 else None,
        conflicts=float((cosines < 0).mean()),
        ratio=float(first[known].mean() / second[known].mean()),
    )


def measure_layers(config: Config, checkpoint: str | Path, num_batches: int, level: int = 3, seed: int = 0) -> dict[str, Any]:
    """The gradients of the tasks of a checkpoint, by part of the network, on batches of the training split.

    The network computes in float32 as in training, the same ``num_batches`` (fewer if an epoch is shorter) for the same seed.
    Losses are those of the tasks without weights, so that ratios of norms say what equal weights would make of them.
    ``groups`` are those of :func:`describe_groups`.
    """
    init_default_scope(config.get('default_scope', 'mtl_plugins'))
    model = MODELS.build(config.model)
    tasks = list(getattr(model, 'tasks', ()))
    if len(tasks) < 2:
        raise ConfigError(f'The model of {checkpoint} should have at least two tasks. Found {tasks}.')
    load_pretrained(model, checkpoint)
    model.to('cuda' if torch.cuda.is_available() else 'cpu').train()
    torch.manual_seed(seed)
    loader = MultiTaskRunner.build_dataloader(config.train_dataloader, seed=seed)
    found = []
    for batch in itertools.islice(loader, num_batches):
        data = model.data_preprocessor(batch, True)
        losses = model.task_losses(model(**data, mode='loss'))
        found.append(gradient_products({task: losses[task] for task in tasks}, model.named_parameters()))
    return dict(tasks=tasks, batches=len(found), groups=describe_groups(found, tasks, level))


def config_of_run(run: Path, data_root: str | None = None) -> Config:
    """Return the config that a run's record holds; `ConfigError` if it holds none that may be built."""
    config = recorded_config(read_run(run), 'train_dataloader')
    if data_root:
        set_data_root(config, data_root)
    return config


def checkpoints_of_run(run: Path) -> list[Path]:
    """Return the checkpoints of a work dir by their epoch or iteration; the best ones only if there are no others."""
    found = sorted(run.glob('*.pth'), key=lambda path: int((re.findall(r'\d+', path.stem) or ['0'])[-1]))
    if not found:
        raise DataNotFoundError(f"'{run}' has no checkpoint, *.pth. Give the work dir of a training that has saved one.")
    return [path for path in found if path.stem.startswith(('epoch_', 'iter_'))] or found
