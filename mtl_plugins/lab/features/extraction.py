"""Features of images by a trained backbone: which images, seen how, and their vectors."""

import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from mmengine.dist import all_reduce, get_dist_info
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.data import Dataset

from mtl_plugins.datasets.loading.collate import view_collate
from mtl_plugins.datasets.loading.labelled_dataset import SampleKey
from mtl_plugins.datasets.loading.thread_loader import ThreadDataLoader
from mtl_plugins.errors import ArgumentError, ConfigError
from mtl_plugins.registry import SCOPE, TRANSFORMS


def with_pipeline(dataset: Dataset, pipeline: Sequence[dict | Callable] | None) -> Dataset:
    """A copy of ``dataset`` that is seen through another pipeline; None changes nothing."""
    if pipeline is None:
        return dataset
    dataset = copy.copy(dataset)
    dataset.pipeline = copy.copy(dataset.pipeline)
    dataset.pipeline.transforms = [
        TRANSFORMS.build({'_scope_': SCOPE, **step}) if isinstance(step, dict) else step for step in pipeline
    ]
    return dataset


def check_splits(bank: Dataset, queries: Dataset) -> None:
    """Raise `ConfigError` if both data sets are the same split of the same root: features would be compared with themselves."""
    sources = [[getattr(dataset, name, None) for name in ('data_root', 'folder', 'split')] for dataset in (bank, queries)]
    if bank is queries or (sources[0] == sources[1] and any(sources[0])):
        raise ConfigError(
            f'Features should be judged on another split than the one they are compared with. Found {sources[0][-1]!r} for both.'
        )


def choose_evenly(size: int, limit: int | None) -> np.ndarray:
    """At most ``limit`` positions, spread evenly over ``range(size)``; None for all."""
    if limit is None or limit >= size:
        return np.arange(size)
    return np.linspace(0, size - 1, limit).round().astype(np.int64)


@dataclass(frozen=True)
class FeatureSet:
    """Images of a data set, whose items are those of `PackViews`, with what a network made of their first views.

    ``indices`` ``(N,)`` are positions in the data set, ``features`` ``(N, C)`` float32, ``labels`` ``(N,)`` int64, -1 where
    unknown.
    """

    dataset: Dataset
    indices: np.ndarray
    features: np.ndarray
    labels: np.ndarray

    @property
    def classes(self) -> tuple[str, ...]:
        return tuple(getattr(self.dataset, 'metainfo', {}).get('classes', ()))

    def image(self, position: int) -> np.ndarray:
        return self.dataset[SampleKey(int(self.indices[position]))]['inputs'][0]


def pooled_features(model: nn.Module, images: Tensor) -> Tensor:
    """Mean over the last map of a backbone, the teacher's of `DINO`, ``(N, C)`` float32; images: uint8 ``(N, H, W, 3)``."""
    inputs = model.data_preprocessor(dict(inputs=images))['inputs']
    if hasattr(model, 'teacher'):
        return model(inputs, mode='tensor').float()
    maps = [feature for feature in model.backbone(inputs) if feature is not None]
    return maps[-1].mean((2, 3)).float()


def _iterate_batches(dataset: Dataset, indices: np.ndarray, batch_size: int, num_workers: int) -> Iterator[dict[str, Any]]:
    """Batches of the samples at ``indices``, in this order, as in epoch 0 with the seed 0."""
    keys = [SampleKey(int(index)) for index in indices]
    return iter(ThreadDataLoader(dataset, batch_size, sampler=keys, num_workers=num_workers, collate_fn=view_collate))


@torch.no_grad()
def extract_features(
    model: nn.Module, dataset: Dataset, indices: Sequence[int] | np.ndarray, *, batch_size: int = 64, num_workers: int = 2
) -> FeatureSet:
    """Features and labels of the first view of the samples at ``indices``.

    The model is in evaluation mode meanwhile; no global random state is used. With several processes each computes a share,
    and all get everything.

    Raises:
        ArgumentError: If there is no sample, or features are not finite.
    """
    indices = np.asarray(indices)
    if not len(indices):
        raise ArgumentError('`indices` is empty: it should hold at least one sample.')
    rank, world_size = get_dist_info()
    was_training = model.training
    model.eval()
    rows, labels = [], []
    for batch in _iterate_batches(dataset, indices[rank::world_size], batch_size, num_workers):
        rows.append(pooled_features(model, batch['inputs'][0]).cpu())
        labels.append(batch['labels'])
    model.train(was_training)
    features, labels = _gather(rows, labels, len(indices), rank, world_size)
    if not np.isfinite(features).all():
        raise ArgumentError('Features should be finite. Found NaN or infinity: the training has diverged.')
    return FeatureSet(dataset, indices, features, labels)


def _gather(rows: list[Tensor], labels: list[Tensor], size: int, rank: int, world_size: int) -> tuple[np.ndarray, np.ndarray]:
    """Every process's share at its places. A process without samples learns the width from the others."""
    width = torch.tensor(rows[0].shape[1] if rows else 0)
    all_reduce(width, op='max')
    features, all_labels = torch.zeros(size, int(width)), torch.zeros(size, dtype=torch.int64)
    if rows:
        features[rank::world_size] = torch.cat(rows)
        all_labels[rank::world_size] = torch.cat(labels)
    for values in (features, all_labels):
        all_reduce(values)
    return features.numpy(), all_labels.numpy()


@torch.no_grad()
def estimate_batch_norm(model: nn.Module, dataset: Dataset, indices: np.ndarray, batch_size: int = 64) -> None:
    """Set BatchNorm's running statistics to the means over batches of the samples, in place.

    An untrained network, which has never seen an image, needs that for a fair comparison with trained ones.
    """
    was_training = model.training
    model.train()
    layers = [module for module in model.modules() if isinstance(module, _BatchNorm)]
    momenta = [layer.momentum for layer in layers]
    for layer in layers:
        layer.reset_running_stats()
        layer.momentum = None
    for batch in _iterate_batches(dataset, indices, batch_size, num_workers=2):
        pooled_features(model, batch['inputs'][0])
    for layer, momentum in zip(layers, momenta, strict=True):
        layer.momentum = momentum
    model.train(was_training)
