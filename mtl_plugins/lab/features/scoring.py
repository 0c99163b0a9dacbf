"""What the tools on features share: model, images and features of a config and a checkpoint."""

import inspect
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from mmengine.config import Config
from mmengine.logging import MMLogger
from torch import nn
from torch.utils.data import Dataset

from mtl_plugins.config.load import load_config, parse_options
from mtl_plugins.errors import ArgumentError, ConfigError, DataError
from mtl_plugins.lab.features.feature_hook import FeatureHook
from mtl_plugins.lab.features.feature_report import FeatureSet, choose_queries, draw_neighbours
from mtl_plugins.lab.features.feature_scores import UNKNOWN, score_features, score_predictions
from mtl_plugins.lab.features.features import check_splits, choose_evenly, estimate_batch_norm, extract_features
from mtl_plugins.models.utils.weights import load_pretrained
from mtl_plugins.registry import DATASETS, MODELS

SPLITS = ('train', 'val')


def build_model(config: Config, checkpoint: str | None, device: str = 'cpu', seed: int = 0, init: bool = True) -> nn.Module:
    """The model of a config in evaluation mode.

    Args:
        config: With ``model``.
        checkpoint: Its weights; None for the initial ones.
        device: Where it lies.
        seed: Of random weights.
        init: Whether initial weights are those that ``init_cfg`` says; else they are random.

    Raises:
        CheckpointError: If the checkpoint cannot be read or does not fit.
    """
    torch.manual_seed(seed)
    model = MODELS.build(config.model)
    if checkpoint is not None:
        load_pretrained(model, checkpoint)
    elif init:
        # mmengine would print every parameter.
        logger = MMLogger.get_current_instance()
        level = logger.level
        logger.setLevel('WARNING')
        model.init_weights()
        logger.setLevel(level)
    return model.to(device).eval()


def find_hook(config: Config) -> Mapping:
    """The config of :class:`FeatureHook`, empty if there is none."""
    hooks = [*config.get('custom_hooks', []), *(hook for hook in config.get('default_hooks', {}).values() if hook)]
    return next((hook for hook in hooks if hook.get('type') == FeatureHook.__name__), {})


def find_setting(config: Config, name: str, given: int | None) -> int:
    """What the command line gives, else what the config's :class:`FeatureHook` has, so that a tool repeats a run's numbers; 0
    stands for None.

    Raises:
        ConfigError: If it is negative.
    """
    if given is not None and given < 0:
        raise ConfigError(f'`--{name.replace("_", "-")}` should not be negative. Found {given}.')
    default = inspect.signature(FeatureHook).parameters[name].default
    return given if given is not None else find_hook(config).get(name, default) or 0


def build_datasets(config: Config, image_size: int | None) -> dict[str, Dataset]:
    """Training and validation crops of a config, each as one view.

    Args:
        config: With ``train_dataloader`` and ``val_dataloader``.
        image_size: Side of the view; None for the pipeline of the config's :class:`FeatureHook`.

    Raises:
        ConfigError: If neither says how images are to be seen, or both splits are the same.
        DataError: If data are missing or broken.
    """
    pipeline = find_hook(config).get('pipeline')
    if image_size is not None:
        pipeline = [dict(type='ResizeCrop', size=image_size), dict(type='PackViews')]
    if pipeline is None:
        raise ConfigError('`--image-size` should be given where the config has no FeatureHook with a pipeline. Found neither.')
    datasets = {}
    for split in SPLITS:
        source = config.get(f'{split}_dataloader')
        if not source:
            raise ConfigError(f'The config should have a `{split}_dataloader` with images. Found none.')
        datasets[split] = DATASETS.build({**source.dataset, 'pipeline': pipeline, 'test_mode': True})
    check_splits(datasets['train'], datasets['val'])
    return datasets


def load_configs(path: str, data_path: str | None, options: list[str] | None, data_root: str | None) -> tuple[Config, Config]:
    """The config of the model and that of the images, the same if ``data_path`` is None.

    Raises:
        ConfigError: As :func:`load_config` does.
    """
    config = load_config(path, parse_options(options), data_root)
    return config, config if data_path is None else load_config(data_path, data_root=data_root)


def extract_sets(model: nn.Module, datasets: Mapping[str, Dataset], limits: Mapping[str, int]) -> dict[str, FeatureSet]:
    """Features of an evenly spread part of each data set, at most ``limits`` images; 0 means all."""
    sets = {}
    for split, dataset in datasets.items():
        indices = choose_evenly(len(dataset), limits[split] or None)
        sets[split] = FeatureSet(dataset, indices, *extract_features(model, dataset, indices))
    return sets


def judge(
    config: Config,
    data_config: Config,
    checkpoint: str | None,
    *,
    random_init: bool,
    image_size: int | None,
    num_train: int | None = None,
    num_val: int | None = None,
    k: int | None = None,
    linear: bool,
    device: str,
    seed: int,
) -> dict:
    """Scores of a network's features and, if asked for, of random weights.

    Random weights count twice: as they are, and with BatchNorm's statistics measured on the training images, which an
    untrained network otherwise lacks. Either may be the better one, by ten points and more.

    Args:
        config: Of the model.
        data_config: Of the images.
        checkpoint: As in :func:`build_model`.
        random_init: Whether to add the rows of random weights.
        image_size: As in :func:`build_datasets`.
        num_train: Training images at most, as in :func:`find_setting`.
        num_val: Validation images at most.
        k: Neighbours that vote.
        linear: Whether to train linear probes.
        device: Where the model runs.
        seed: Of random weights.

    Returns:
        ``rows``, scores by the name of the weights; ``num_train``, ``num_val``, ``classes`` and ``k``.

    Raises:
        UserError: If config, checkpoint or data are wrong, or the images have no labels.
    """
    check_device(device)
    datasets = build_datasets(data_config, image_size)
    limits = dict(train=find_setting(data_config, 'num_train', num_train), val=find_setting(data_config, 'num_val', num_val))
    k = find_setting(data_config, 'k', k)
    rows = {}

    def add(name: str, model: nn.Module) -> dict[str, FeatureSet]:
        sets = extract_sets(model, datasets, limits)
        train, val = (sets[split] for split in SPLITS)
        rows[name] = score_features(train.features, train.labels, val.features, val.labels, k=k, linear=linear)
        return sets

    sets = add(describe_checkpoint(checkpoint), build_model(config, checkpoint, device, seed))
    if random_init:
        model = build_model(config, None, device, seed, init=False)
        add('random weights', model)
        estimate_batch_norm(model, datasets['train'], sets['train'].indices)
        add('random weights, BatchNorm statistics of the training images', model)
    train, val = (sets[split] for split in SPLITS)
    if not rows[describe_checkpoint(checkpoint)]:
        raise DataError('Features can be judged by labelled images only. Found no image of a known class.')
    majority = np.bincount(train.labels[train.labels != UNKNOWN]).argmax()
    known = val.labels[val.labels != UNKNOWN]
    guess = score_predictions(np.full_like(known, majority), known, 'knn_accuracy')
    rows['most frequent class, whatever the image'] = guess | (
        {'linear_accuracy': guess['knn_accuracy'], 'linear_accuracy_per_class': guess['knn_accuracy_per_class']} if linear else {}
    )
    return dict(rows=rows, num_train=len(train.labels), num_val=len(val.labels), classes=list(val.classes), k=k)


def to_table(document: Mapping) -> str:
    """The rows of :func:`judge` as Markdown, in per cent."""
    columns = {'knn_accuracy': f'{document["k"]}-NN', 'linear_accuracy': 'linear probe'}
    columns = {name: title for name, title in columns.items() if name in next(iter(document['rows'].values()))}
    lines = [
        f'| {document["num_val"]} validation against {document["num_train"]} training images; accuracy in % | '
        + ' | '.join(f'{title} | mean over classes' for title in columns.values())
        + ' |',
        '|---|' + '---:|---:|' * len(columns),
    ]
    for name, scores in document['rows'].items():
        cells = [f'{scores[column]:.1f} | {scores[f"{column}_per_class"]:.1f}' for column in columns]
        lines.append(f'| {name} | {" | ".join(cells)} |')
    return '\n'.join(lines)


def find_neighbours(
    config: Config,
    data_config: Config,
    checkpoint: str | None,
    *,
    image_size: int | None,
    num_train: int | None = None,
    num_queries: int,
    indices: Sequence[int] | None,
    k: int,
    device: str,
) -> tuple[np.ndarray, str]:
    """The picture of validation images beside their nearest training images, and words on its size.

    Args:
        config: Of the model.
        data_config: Of the images.
        checkpoint: As in :func:`build_model`.
        image_size: As in :func:`build_datasets`.
        num_train: Training images at most, as in :func:`find_setting`.
        num_queries: Validation images, classes taking turns.
        indices: These validation images instead.
        k: Neighbours of each.
        device: Where the model runs.

    Raises:
        UserError: If config, checkpoint or data are wrong.
        ArgumentError: If ``indices`` do not exist.
    """
    check_device(device)
    datasets = build_datasets(data_config, image_size)
    num_val = len(datasets['val'])
    wrong = [index for index in indices or [] if not 0 <= index < num_val]
    if wrong:
        raise ArgumentError(f'`--indices` should lie in 0..{num_val - 1}, the validation images. Found {wrong[0]}.')
    model = build_model(config, checkpoint, device)
    if indices is None:
        labels = np.array([datasets['val'].get_data_info(index).get('label', UNKNOWN) for index in range(num_val)])
        indices = choose_queries(labels, num_queries)
    train = extract_sets(model, {'train': datasets['train']}, {'train': find_setting(data_config, 'num_train', num_train)})[
        'train'
    ]
    val = FeatureSet(datasets['val'], np.asarray(indices), *extract_features(model, datasets['val'], indices))
    title = f'Nearest training images by cosine, {describe_checkpoint(checkpoint)}'
    picture = draw_neighbours(train, val, np.arange(len(val.indices)), k, title)
    return picture, f'{len(val.indices)} queries, {min(k, len(train.indices))} neighbours of {len(train.indices)} images'


def check_device(device: str) -> None:
    """Raises:
    ConfigError: If there is no such device.
    """
    if device != 'cpu' and not (device.startswith('cuda') and torch.cuda.is_available()):
        raise ConfigError(f'`--device` should be cpu, or cuda on a machine with CUDA. Found {device}.')


def describe_checkpoint(checkpoint: str | None) -> str:
    """How tables and titles call the weights."""
    return 'initial weights' if checkpoint is None else Path(checkpoint).name
