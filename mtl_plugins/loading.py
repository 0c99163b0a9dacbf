"""Trained models over the same images of one split."""

import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope
from torch import nn
from torch.utils.data import DataLoader

from mtl_plugins.config.links import datasets_of, offered_labels
from mtl_plugins.engine.runner import MultiTaskRunner
from mtl_plugins.errors import ConfigError
from mtl_plugins.evaluation.metrics.streaming_metric import to_values
from mtl_plugins.labels.label_kind import LabelKind
from mtl_plugins.labels.presets import build_labels
from mtl_plugins.models.utils.build import build_from_data
from mtl_plugins.models.utils.checkpoint import load_pretrained
from mtl_plugins.models.utils.inference import prepare_for_inference
from mtl_plugins.models.utils.model_stats import count_parameters
from mtl_plugins.registry import MODELS
from mtl_plugins.visualization.attention_maps import crop_attention


@dataclass
class Contender:
    """A trained model.

    Attributes:
        name: Its heading.
        config: Path of its config.
        checkpoint: Path of its weights.
        parameters: Their number.
        model: As validation runs it, with folded BatchNorm.
    """

    name: str
    config: str
    checkpoint: str
    parameters: int
    model: nn.Module = field(repr=False)

    def describe(self) -> dict:
        with open(self.checkpoint, 'rb') as file:
            digest = hashlib.file_digest(file, 'sha256').hexdigest()
        return dict(
            name=self.name,
            config=self.config,
            checkpoint=self.checkpoint,
            checkpoint_sha256=digest,
            parameters=self.parameters,
        )


@dataclass(frozen=True)
class Sample:
    """An image and what the models make of it.

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


def build_trained(config: Config, checkpoint: str, advice: str | None = None) -> nn.Module:
    """The model of a config with the weights of a checkpoint, on the CPU.

    Args:
        config: With ``model``.
        checkpoint: Path of the weights.
        advice: For a config that is data, what to do if it cannot be built: it may have as many weights as the file has room for.

    Raises:
        ConfigError: If the model predicts no labels, or one that is data cannot be built.
        CheckpointError: If the checkpoint does not fit.
    """
    init_default_scope(config.get('default_scope', 'mtl_plugins'))
    if advice is None:
        model = MODELS.build(config.model)
    else:
        most = 2**22 + os.path.getsize(checkpoint)
        model = build_from_data(config.model, f'The model of {checkpoint}', most, advice)
    if not hasattr(model, 'label_names'):
        raise ConfigError(f'The model of {config.filename or checkpoint} should predict labels. Found {type(model).__name__}.')
    load_pretrained(model, checkpoint)
    return model


def load_contender(name: str, config: Config, checkpoint: str, advice: str | None = None) -> Contender:
    """Build the model of a config and load a checkpoint into it, see :func:`build_trained`.

    Raises:
        ConfigError: If the model predicts no labels.
        CheckpointError: If the checkpoint does not fit.
    """
    model = build_trained(config, checkpoint, advice)
    parameters = count_parameters(model)
    device = 'cuda' if torch.cuda.is_available() else 'cpu'
    return Contender(name, str(config.filename), checkpoint, parameters, prepare_for_inference(model).to(device))


def build_loader(
    contenders: Sequence[Contender],
    configs: Sequence[Config],
    split: str | None = None,
    more_labels: Sequence[str] = (),
) -> DataLoader:
    """The validation loader of the first config, for all, which reads the labels that any of the models predicts.

    Args:
        contenders: The models.
        configs: Theirs.
        split: Another split than the config's.
        more_labels: Labels to read besides.

    Raises:
        ConfigError: If another config's data set has other classes, or a model another number of classes.
    """
    data = configs[0].val_dataloader.dataset
    offered = offered_labels(data) or {}
    wanted = list(dict.fromkeys([*(name for each in contenders for name in each.model.label_names), *more_labels]))
    for contender, config in zip(contenders, configs, strict=True):
        _check_classes(contender, config, offered)
    unknown = [name for name in wanted if name not in offered]
    if unknown:
        raise ConfigError(f'The data of {configs[0].filename} have the labels {", ".join(offered)}. Found {unknown[0]}.')
    for part in datasets_of(data):
        if 'tasks' in part:
            part['tasks'] = wanted
        if split is not None:
            part['split'] = split
    return MultiTaskRunner.build_dataloader(configs[0].val_dataloader)


def _check_classes(contender: Contender, config: Config, offered: Mapping[str, Mapping]) -> None:
    theirs = offered_labels(config.val_dataloader.dataset) or {}
    tasks = {label: contender.model.tasks[task] for task, label in contender.model.labels.items()}
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
                f'The model of {contender.config} should know the {len(classes)} classes of the data set. Found {known}.'
            )


def labels_of(loader: DataLoader) -> dict[str, LabelKind]:
    """The kinds of label that the samples of a loader may have, by name."""
    return build_labels(loader.dataset.metainfo['labels'])


@torch.inference_mode()
def predict_samples(
    contenders: Sequence[Contender], loader: DataLoader, positions: Sequence[int] | None = None
) -> Iterator[Sample]:
    """Samples with the predictions of each model, one batch at a time.

    Args:
        contenders: The models.
        loader: Of the split.
        positions: Which samples of its data set, in this order; all of them by default.

    Raises:
        ConfigError: If the split has none of the labels.
    """
    labels = labels_of(loader)
    order = iter(range(len(loader.dataset)) if positions is None else positions)
    batches = loader if positions is None else (loader.collate_fn([loader.dataset[int(each)]]) for each in positions)
    for batch in batches:
        if not batch['targets']:
            raise ConfigError(
                f'The split {loader.dataset.split!r} of {loader.dataset.data_root} should have labels: {", ".join(labels)}. '
                'Found none.'
            )
        answers = [_predict(contender.model, batch) for contender in contenders]
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


def _predict(model: nn.Module, batch: dict) -> list[tuple[dict[str, np.ndarray], np.ndarray | None]]:
    """Values by label of each image of a batch, without its padding, and attention, where the model has it."""
    inputs = model.data_preprocessor(dict(inputs=batch['inputs']))['inputs']
    predictions = model.predict_arrays(inputs)
    maps = model.attend(inputs).cpu().numpy() if hasattr(model, 'attend') else [None] * len(inputs)
    found = []
    for index, (attention, meta) in enumerate(zip(maps, batch['metainfo'], strict=True)):
        height, width = meta['ori_shape'][:2]
        if attention is not None:
            attention = crop_attention(attention, tuple(inputs.shape[-2:]), (height, width)).astype(np.float16)
        values = {}
        for name, prediction in predictions.items():
            planes = prediction[index].reshape(-1, *prediction.shape[-2:])
            values[name] = to_values(planes[:, :height, :width])
        found.append((values, attention))
    return found
