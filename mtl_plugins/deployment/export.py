"""Exporting a trained model: tracing, quantising, proof of parity, and only then the file."""

import os
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from mmengine.config import Config
from rich.console import Console
from rich.table import Table
from torch import nn
from torch.utils.data import DataLoader

from mtl_plugins.deployment.description import Description
from mtl_plugins.deployment.exported_runtimes import load_runtime
from mtl_plugins.deployment.parity import LIMITS, Row, compare, gate_images, refuse_failures
from mtl_plugins.deployment.runtime import Runtime, TorchRuntime
from mtl_plugins.deployment.writing import check_format, format_of, write
from mtl_plugins.errors import ConfigError, UserError
from mtl_plugins.evaluation.scores import title_of
from mtl_plugins.loading import build_loader, checkpoint_digest, labels_of, predict_samples
from mtl_plugins.records.provenance import package_versions
from mtl_plugins.utils.files import describe_os_error, make_folder, scratch_folder


class Calibration(NamedTuple):
    """Data for int8: training images ``(1, H, W, 3)``, the validation split, the points by which a score may get worse."""

    images: Sequence[np.ndarray]
    loader: DataLoader
    most_worse: float = 1.0


def export(model: nn.Module, description: Description, out: Path, calibration: Calibration | None = None) -> list[Row]:
    """Write a model to a file that passed the gate.

    Args:
        model: A :class:`MultiTaskSegmentor` in float32 on the CPU, in evaluation mode; it stays as it is.
        description: See :func:`~mtl_plugins.deployment.description.describe`.
        out: The file, whose suffix chooses the format. OpenVINO's has another one next to it, ``.bin``.
        calibration: For int8.

    Returns:
        The rows of the gate, all passed.

    Raises:
        ConfigError: If the model cannot be exported so; the message says why.
        UserError: If the file would not compute what the model computes, or cannot be written; an earlier file is unchanged.
    """
    precision = description.precision
    check_format(format_of(out), precision)
    if precision == 'int8' and calibration is None:
        raise ConfigError('int8 should be given training images for its scales. Found none.')
    if precision == 'int8' and (description.size or description.batch):
        raise ConfigError(
            'int8 is for files that take any images: leave out `--size` and `--batch-size`. Found '
            f'{description.size}, {description.batch}.'
        )
    make_folder(out.parent)
    try:
        with scratch_folder(out) as folder:
            written = folder / out.name
            write(model, description, written, calibration.images if calibration else ())
            runtime = load_runtime(written)
            rows = compare(model, runtime, gate_images(description), LIMITS[precision])
            refuse_failures(rows, precision)
            if calibration is not None:
                refuse_losses(model, runtime, calibration)
            weights = written.with_suffix('.bin')
            if weights.exists():
                # So that a kill between the two leaves no graph beside the weights of another one.
                out.unlink(missing_ok=True)
                os.replace(weights, out.with_suffix('.bin'))
            os.replace(written, out)
    except OSError as error:
        raise UserError(f'{describe_os_error(error, out)} Nothing was written; an earlier file is unchanged.') from error
    return rows


def provenance(config: Config, checkpoint: str) -> dict[str, Any]:
    """Return where a model comes from, for its file: names, digest of the checkpoint, versions of packages."""
    names = dict(config=Path(config.filename).name, checkpoint=Path(checkpoint).name)
    return dict(names, checkpoint_sha256=checkpoint_digest(checkpoint), **package_versions())


def load_calibration(config: Config, model: nn.Module, number: int, most_worse: float) -> Calibration:
    """Load some images of the training split, evenly chosen, and the validation split."""
    train = build_loader([model], [config], 'train')
    positions = np.unique(np.linspace(0, len(train.dataset) - 1, number).astype(int))
    images = [train.collate_fn([train.dataset[int(position)]])['inputs'].numpy() for position in positions]
    return Calibration(images, build_loader([model], [config], 'val'), most_worse)


def score(runtime: Runtime, loader: DataLoader, limit: int | None = None) -> dict[str, float]:
    """Return the summary score of each label that a runtime predicts, over a labelled split or its first ``limit`` images."""
    scorers = {name: kind.scorer() for name, kind in labels_of(loader).items() if name in runtime.labels}
    for sample in islice(predict_samples([runtime], loader), limit):
        for name in scorers.keys() & sample.values.keys():
            scorers[name].add(scorers[name].measure(sample.values[name], sample.predictions[0][name]))
    empty = [name for name, scorer in scorers.items() if scorer.is_empty()]
    if empty:
        raise ConfigError(
            f'The split {loader.dataset.split!r} of {loader.dataset.data_root} should have labels. Found none of {empty}.'
        )
    return {scorer.summary: scorer.scores()[scorer.summary] for scorer in scorers.values()}


def refuse_losses(model: nn.Module, runtime: Runtime, calibration: Calibration) -> None:
    """Print the scores in float32 and in int8, and raise `UserError` if one got worse by more than it may."""
    before = score(TorchRuntime(model, device='cpu'), calibration.loader)
    after = score(runtime, calibration.loader)
    table, losses = Table('score', 'float32', 'int8', 'worse by', 'at most'), {}
    for kind in runtime.labels.values():
        scorer = kind.scorer()
        name, title = scorer.summary, title_of(scorer.summary)
        gain = after[name] - before[name]
        losses[title] = -gain if scorer.described[name].higher_is_better else gain
        table.add_row(title, f'{before[name]:.2f}', f'{after[name]:.2f}', f'{losses[title]:.2f}', f'{calibration.most_worse:g}')
    Console().print(table)
    worst = max(losses, key=losses.get)
    if not losses[worst] <= calibration.most_worse:
        raise UserError(
            f'In int8 {worst} should get worse by at most {calibration.most_worse:g} points (`--max-loss`). Found '
            f'{losses[worst]:.2f}. Nothing was written.'
        )
