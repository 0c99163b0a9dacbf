"""Samplers that yield `SampleKey`: the order and the augmentation of samples follow from (seed, epoch, index) alone."""

from collections.abc import Iterator, Sized
from itertools import islice
from typing import Any

import numpy as np
from mmengine.dataset import DefaultSampler, InfiniteSampler
from mmengine.dist import get_dist_info, sync_random_seed
from torch.utils.data import Sampler

from mtl_plugins.datasets.loading.labelled_dataset import SampleKey
from mtl_plugins.errors import ArgumentError, ConfigError
from mtl_plugins.registry import DATA_SAMPLERS


class _Skipping:
    _start = 0

    def skip(self, num_samples: int) -> None:
        """Let iterators start as if the first ``num_samples`` of this rank's share had been taken; no data are read."""
        self._start = num_samples


@DATA_SAMPLERS.register_module()
class EpochSampler(_Skipping, DefaultSampler):
    """mmengine's `DefaultSampler` with keys instead of indices, for epoch-based loops and evaluation.

    With ``W`` processes rank ``r`` takes positions ``r, r + W, ...`` of the epoch's order; without shuffling those are the
    dataset indices. Each iterator starts at the position set by `skip`, at first 0; the length is that of the whole epoch.

    Args:
        shuffle: Draw a new order each epoch (set by ``set_epoch``).
        seed: Of order and augmentation, the same on all ranks. By default drawn at random and agreed on by all ranks.
        round_up: Repeat samples until all ranks have the same number.
    """

    def __iter__(self) -> Iterator[SampleKey]:
        epoch, indices = self.epoch, islice(super().__iter__(), self._start, None)
        return (SampleKey(index, epoch, self.seed) for index in indices)


@DATA_SAMPLERS.register_module()
class IterationSampler(_Skipping, Sampler):
    """An endless stream of keys, for iteration-based loops: one pass over the data after the other.

    With ``W`` processes rank ``r`` takes positions ``r, r + W, ...`` of the stream. Each iterator starts at the position set
    by `skip`, at first 0.

    Args:
        shuffle: Draw a new order for each pass.
        seed: Of order and augmentation, the same on all ranks. By default drawn at random and agreed on by all ranks.

    Raises:
        ArgumentError: If the dataset is empty.
    """

    def __init__(self, dataset: Sized, shuffle: bool = True, seed: int | None = None):
        if len(dataset) == 0:
            raise ArgumentError('`dataset` is empty: it should hold at least one sample.')
        self.rank, self.world_size = get_dist_info()
        self.size = len(dataset)
        self.shuffle = shuffle
        self.seed = sync_random_seed() if seed is None else seed

    def __iter__(self) -> Iterator[SampleKey]:
        position = self.rank + self._start * self.world_size
        while True:
            epoch, offset = divmod(position, self.size)
            order = self._order(epoch)
            for index in order[offset :: self.world_size]:
                yield SampleKey(index, epoch, self.seed)
                position += self.world_size

    def _order(self, epoch: int) -> list[int]:
        if not self.shuffle:
            return list(range(self.size))
        return np.random.default_rng([self.seed, epoch]).permutation(self.size).tolist()

    def set_epoch(self, epoch: int) -> None:
        """Nothing to do: the stream counts its passes itself."""

    def __len__(self) -> int:
        """Samples of one pass over the data, on all ranks together."""
        return self.size


def refuse_endless(loader: Any, loop: str, instead: str) -> None:
    """Refuse a data loader that never ends for a loop that waits for its end."""
    sampler = getattr(loader, 'sampler', None)
    if isinstance(sampler, (IterationSampler, InfiniteSampler)):
        raise ConfigError(f'{loop} should have a sampler that ends, such as {instead}. Found {type(sampler).__name__}.')
