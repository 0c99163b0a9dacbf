"""Two segmentation models over one validation split: IoU per class side by side, examples, attention."""

import hashlib
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope
from rich.progress import track
from torch import nn
from torch.utils.data import DataLoader

from mtl_plugins.engine.runner import MultiTaskRunner
from mtl_plugins.errors import ConfigError
from mtl_plugins.evaluation.functional.confusion_matrix import ConfusionScorer
from mtl_plugins.labels.presets import build_labels
from mtl_plugins.models.utils.checkpoint import load_pretrained
from mtl_plugins.models.utils.inference import prepare_for_inference
from mtl_plugins.models.utils.model_stats import count_parameters
from mtl_plugins.registry import MODELS
from mtl_plugins.visualization.attention_maps import crop_attention

BACKGROUND = 'background'


@dataclass
class Contender:
    """A trained model and what it did on the split.

    Attributes:
        name: Heading of its columns.
        config: Path of its config.
        checkpoint: Path of its weights.
        parameters: Their number.
        model: As validation runs it, with folded BatchNorm.
        scores: As :class:`IoUMetric` names them.
        attention: By image name, ``(classes, h, w)`` float16 on the grid of the features; empty for a model without attention.
    """

    name: str
    config: str
    checkpoint: str
    parameters: int
    model: nn.Module = field(repr=False)
    scores: dict[str, float] = field(default_factory=dict)
    attention: dict[str, np.ndarray] = field(default_factory=dict)

    def describe(self) -> dict:
        with open(self.checkpoint, 'rb') as file:
            digest = hashlib.file_digest(file, 'sha256').hexdigest()
        return dict(
            name=self.name,
            config=self.config,
            checkpoint=self.checkpoint,
            checkpoint_sha256=digest,
            parameters=self.parameters,
            scores=self.scores,
        )


def load_contender(name: str, config: Config, checkpoint: str) -> Contender:
    """Build the model of a config and load a checkpoint into it.

    Raises:
        ConfigError: If the model does not segment.
        CheckpointError: If the checkpoint does not fit.
    """
    model = MODELS.build(config.model)
    if not any(hasattr(task, 'num_classes') for task in getattr(model, 'tasks', {}).values()):
        raise ConfigError(
            f'The model of {config.filename} should have a task with classes. Found {type(model).__name__} without.'
        )
    load_pretrained(model, checkpoint)
    parameters = count_parameters(model)
    device = 'cuda' if torch.cuda.is_available() else 'cpu'
    return Contender(name, str(config.filename), checkpoint, parameters, prepare_for_inference(model).to(device))


def build_loader(configs: Sequence[Config]) -> DataLoader:
    """The validation loader of the first config, for all.

    Raises:
        ConfigError: If the data set of another config has other classes.
    """
    init_default_scope(configs[0].get('default_scope', 'mtl_plugins'))
    loader, *others = (MultiTaskRunner.build_dataloader(config.val_dataloader) for config in configs)
    classes = tuple(loader.dataset.metainfo['classes'])
    for other in others:
        found = tuple(other.dataset.metainfo['classes'])
        if found != classes:
            raise ConfigError(f'Both data sets should have the classes {", ".join(classes)}. Found {", ".join(found)}.')
    return loader


@torch.inference_mode()
def compare(contenders: Sequence[Contender], loader: DataLoader, num_examples: int, progress: bool = True) -> list[dict]:
    """Run the contenders over the split and fill in their scores and attention.

    Each sees the same images and labels, and is judged by one confusion matrix over the whole split.

    Args:
        contenders: The models.
        loader: As :func:`build_loader` gives it.
        num_examples: How many images to keep.
        progress: Whether to show a progress bar.

    Returns:
        Examples, each with ``image`` ``(H, W, 3)``, ``label_map`` ``(H, W)``, ``predictions``, a ``(H, W)`` for each contender,
        ``name`` and ``label``, the class but the background that covers most of it. The classes take turns, and of each the
        first images of the split are kept: nothing of it depends on the predictions.

    Raises:
        ConfigError: If the split has no labels, or a model has another number of classes than the data set.
    """
    classes = list(loader.dataset.metainfo['classes'])
    for contender in contenders:
        known = task_with_classes(contender.model)[1].num_classes
        if known != len(classes):
            raise ConfigError(
                f'The model of {contender.config} should know the {len(classes)} classes of the data set. Found {known}.'
            )
    label_name = class_label(loader)
    scorers = [ConfusionScorer(label_name, classes) for _ in contenders]
    examples: dict[int, list[dict]] = defaultdict(list)
    for batch in track(loader, description='Comparing', disable=not progress, transient=True):
        if label_name not in batch['targets']:
            raise ConfigError(f'The split {loader.dataset.split!r} should have labels. Found none.')
        answers = [list(_predict(contender.model, batch)) for contender in contenders]
        for index, meta in enumerate(batch['metainfo']):
            height, width = meta['ori_shape'][:2]
            label = batch['targets'][label_name][index, :height, :width].numpy()
            name = Path(meta['img_path']).stem
            for contender, scorer, answer in zip(contenders, scorers, answers, strict=True):
                prediction, attention = answer[index]
                scorer.add(scorer.measure(label, prediction))
                if attention is not None:
                    contender.attention[name] = attention
            largest = _largest_class(label, classes)
            if largest is not None and len(examples[largest]) < num_examples:
                image = batch['inputs'][index, :height, :width].numpy()
                predictions = [answer[index][0] for answer in answers]
                examples[largest].append(dict(image=image, label_map=label, predictions=predictions, name=name, label=largest))
    for contender, scorer in zip(contenders, scorers, strict=True):
        contender.scores = scorer.scores()
    turns = [bucket[turn] for turn in range(num_examples) for _, bucket in sorted(examples.items()) if turn < len(bucket)]
    return turns[:num_examples]


def class_label(loader: DataLoader) -> str:
    """The name of the first class map of the data."""
    labels = build_labels(loader.dataset.metainfo['labels'])
    return next(name for name, kind in labels.items() if kind.is_class_map)


def task_with_classes(model: nn.Module) -> tuple[str, nn.Module]:
    """The first task with classes, by its name."""
    return next((name, task) for name, task in model.tasks.items() if hasattr(task, 'num_classes'))


def _predict(model: nn.Module, batch: dict) -> Iterator[tuple[np.ndarray, np.ndarray | None]]:
    """Labels ``(H, W)`` of each image of a batch, without its padding, and attention, where the model has it."""
    inputs = model.data_preprocessor(dict(inputs=batch['inputs']))['inputs']
    labels = model.predict_arrays(inputs)[model.labels[task_with_classes(model)[0]]].cpu().numpy()
    maps = model.attend(inputs).cpu().numpy() if hasattr(model, 'attend') else [None] * len(labels)
    for label, attention, meta in zip(labels, maps, batch['metainfo'], strict=True):
        height, width = meta['ori_shape'][:2]
        if attention is not None:
            attention = crop_attention(attention, tuple(inputs.shape[-2:]), (height, width)).astype(np.float16)
        yield label[:height, :width], attention


def _largest_class(label: np.ndarray, classes: Sequence[str]) -> int | None:
    """The class but the background with the most pixels; None if there is none."""
    counts = np.bincount(label.ravel(), minlength=256)[: len(classes)]
    counts = np.where([name == BACKGROUND for name in classes], 0, counts)
    return int(counts.argmax()) if counts.any() else None
