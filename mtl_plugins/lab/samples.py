"""The images of a labelled split, and what trained models predict of them."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import numpy as np
import torch
from mmengine.config import Config
from torch import nn
from torch.utils.data import DataLoader

from mtl_plugins.config.links import datasets_of, offered_labels
from mtl_plugins.engine.runner import MultiTaskRunner
from mtl_plugins.errors import ConfigError
from mtl_plugins.labels.label_kind import LabelKind
from mtl_plugins.labels.presets import build_labels
from mtl_plugins.loading import to_arrays
from mtl_plugins.visualization.prediction_grid import crop_attention

Predictor = Callable[[np.ndarray], Mapping[str, np.ndarray]]


@dataclass(frozen=True)
class Sample:
    """An image and its predictions by some models.

    Attributes:
        position: In the data set.
        name: Of its file, without the suffix.
        image: ``(H, W, 3)`` uint8 RGB.
        values: True values by label; a label that the sample lacks is absent.
        predictions: Of each model, predicted values by label.
        attention: Of each model, ``(classes, h, w)`` float16 on the grid of the features; None for one without.
    """

    position: int
    name: str
    image: np.ndarray
    values: dict[str, np.ndarray]
    predictions: list[dict[str, np.ndarray]]
    attention: list[np.ndarray | None]


def build_loader(
    models: Sequence[nn.Module], configs: Sequence[Config], split: str | None = None, more_labels: Sequence[str] = ()
) -> DataLoader:
    """Build the validation loader of the first config, with the labels that any of the models predicts, and ``more_labels``.

    Raises:
        ConfigError: If another config's data set has other classes, or a model another number of classes.
    """
    data = configs[0].val_dataloader.dataset
    offered = offered_labels(data) or {}
    wanted = list(dict.fromkeys([*(name for model in models for name in model.label_names), *more_labels]))
    for model, config in zip(models, configs, strict=True):
        _check_classes(model, config, offered)
    unknown = [name for name in wanted if name not in offered]
    if unknown:
        raise ConfigError(f'The data of {configs[0].filename} have the labels {", ".join(offered)}. Found {unknown[0]}.')
    for part in datasets_of(data):
        if 'tasks' in part:
            part['tasks'] = wanted
        if split is not None:
            part['split'] = split
    return MultiTaskRunner.build_dataloader(configs[0].val_dataloader)


def _check_classes(model: nn.Module, config: Config, offered: Mapping[str, Mapping]) -> None:
    theirs = offered_labels(config.val_dataloader.dataset) or {}
    tasks = {label: model.tasks[task] for task, label in model.labels.items()}
    for name, label in offered.items():
        classes, found = label.get('classes'), theirs.get(name, {}).get('classes')
        if not classes:
            continue
        if found and list(classes) != list(found):
            raise ConfigError(
                f'All data sets should have the classes {", ".join(classes)}. Found {", ".join(found)} in {config.filename}.'
            )
        known = getattr(tasks.get(name), 'num_classes', None)
        if known not in (None, len(classes)):
            raise ConfigError(
                f'The model of {config.filename} should know the {len(classes)} classes of the data set. Found {known}.'
            )


def labels_of(loader: DataLoader) -> dict[str, LabelKind]:
    """Return the kinds of label of the samples of a loader by name."""
    return build_labels(loader.dataset.metainfo['labels'])


@torch.inference_mode()
def predict_samples(
    models: Sequence[nn.Module | Predictor], loader: DataLoader, positions: Sequence[int] | None = None
) -> Iterator[Sample]:
    """Give samples with the predictions of each model, one batch at a time.

    Args:
        models: As :func:`~mtl_plugins.models.utils.inference.prepare_for_inference` gives them, or functions that give the
            values by label of images ``(N, H, W, 3)``, uint8 RGB.
        loader: Of the split.
        positions: Positions of samples in its data set, in this order; all of them by default.

    Raises:
        ConfigError: If the split has none of the labels.
    """
    labels = labels_of(loader)
    order = count() if positions is None else iter(positions)
    batches = loader if positions is None else (loader.collate_fn([loader.dataset[int(each)]]) for each in positions)
    for batch in batches:
        if not batch['targets']:
            raise ConfigError(
                f'The split {loader.dataset.split!r} of {loader.dataset.data_root} has none of the labels '
                f'{", ".join(labels)}. Choose a labelled one with `--split`.'
            )
        answers = [_predict(model, batch) for model in models]
        for index, meta in enumerate(batch['metainfo']):
            height, width = meta['ori_shape'][:2]
            values = {}
            for name, stored in batch['targets'].items():
                own = stored[index, :height, :width].numpy()
                if labels[name].valid(own).any():
                    values[name] = labels[name].to_values(own)
            yield Sample(
                position=int(next(order)),
                name=Path(meta['img_path']).stem,
                image=batch['inputs'][index, :height, :width].numpy(),
                values=values,
                predictions=[answer[index][0] for answer in answers],
                attention=[answer[index][1] for answer in answers],
            )


def _predict(model: nn.Module | Predictor, batch: dict) -> list[tuple[dict[str, np.ndarray], np.ndarray | None]]:
    """Return the values by label of each image of a batch, without its padding, and its attention if the model has any."""
    maps, found = [None] * len(batch['inputs']), []
    if isinstance(model, nn.Module):
        inputs = model.data_preprocessor(dict(inputs=batch['inputs']))['inputs']
        predictions = {name: to_arrays(maps) for name, maps in model.predict_arrays(inputs).items()}
        if hasattr(model, 'attend'):
            maps = model.attend(inputs).cpu().numpy()
    else:
        predictions = model(batch['inputs'].numpy())
    for index, (attention, meta) in enumerate(zip(maps, batch['metainfo'], strict=True)):
        height, width = meta['ori_shape'][:2]
        if attention is not None:
            attention = crop_attention(attention, tuple(inputs.shape[-2:]), (height, width)).astype(np.float16)
        found.append(({name: values[index, :height, :width] for name, values in predictions.items()}, attention))
    return found
