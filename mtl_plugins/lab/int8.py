"""Calibration images of an int8 export, and the check that its scores stay close to those of float32."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from mmengine.config import Config
from rich.console import Console
from rich.table import Table
from torch import nn
from torch.utils.data import DataLoader

from mtl_plugins.deployment.runtimes import Runtime, TorchRuntime
from mtl_plugins.errors import ConfigError, UserError
from mtl_plugins.evaluation.scores import title_of
from mtl_plugins.lab.samples import build_loader, labels_of, predict_samples


class Calibration(NamedTuple):
    """Data for int8: training images ``(1, H, W, 3)``, the validation split, the points by which a score may get worse."""

    images: Sequence[np.ndarray]
    loader: DataLoader
    most_worse: float = 1.0


def load_calibration(config: Config, model: nn.Module, number: int, most_worse: float) -> Calibration:
    """Load some images of the training split, evenly chosen, and the validation split."""
    train = build_loader([model], [config], 'train')
    positions = np.unique(np.linspace(0, len(train.dataset) - 1, number).astype(int))
    images = [train.collate_fn([train.dataset[int(position)]])['inputs'].numpy() for position in positions]
    return Calibration(images, build_loader([model], [config], 'val'), most_worse)


def score(runtime: Runtime, loader: DataLoader) -> dict[str, float]:
    """Return the summary score of each label that a runtime predicts, over a labelled split."""
    scorers = {name: kind.scorer() for name, kind in labels_of(loader).items() if name in runtime.labels}
    for sample in predict_samples([runtime], loader):
        for name in scorers.keys() & sample.values.keys():
            scorers[name].add(scorers[name].measure(sample.values[name], sample.predictions[0][name]))
    empty = [name for name, scorer in scorers.items() if scorer.is_empty()]
    if empty:
        raise ConfigError(
            f'The split {loader.dataset.split!r} of {loader.dataset.data_root} has no labels of {", ".join(empty)}. Give data '
            'with labels by `--data-root`.'
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
