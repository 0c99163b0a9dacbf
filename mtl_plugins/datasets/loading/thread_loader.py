"""A data loader whose workers are threads: decoding releases the interpreter lock, so nothing need cross a process border."""

from collections.abc import Iterator
from functools import partial
from typing import Any

import cv2
import torch
from torch.utils.data import DataLoader

from mtl_plugins.utils.threads import map_in_order


class ThreadDataLoader(DataLoader):
    """PyTorch's `DataLoader` with threads instead of worker processes: ``dataset[key]`` is called by several threads.

    Batches come in the sampler's order, ``prefetch_factor * num_workers`` are on their way at any time, and an exception in a
    worker is raised as it is. Leaving the iterator, or dropping it, stops the threads. With ``num_workers=0`` batches are made
    in the caller's thread.
    """

    def check_worker_number_rationality(self) -> None:
        """Nothing to warn of: more threads than cores cost little."""

    def __iter__(self) -> Iterator[Any]:
        cuda_device = torch.cuda.current_device() if self.pin_memory and torch.cuda.is_available() else None
        load = partial(self._load, cuda_device=cuda_device)
        if self.num_workers == 0:
            return map(load, self._index_sampler)
        cv2.setNumThreads(0)
        return map_in_order(load, self._index_sampler, self.num_workers, self.prefetch_factor)

    def _load(self, keys: Any, cuda_device: int | None) -> Any:
        """One batch; a single item if automatic batching is off."""
        items = [self.dataset[key] for key in keys] if self._auto_collation else self.dataset[keys]
        batch = self.collate_fn(items)
        return batch if cuda_device is None else _pin(batch, cuda_device)


def _pin(value: Any, cuda_device: int) -> Any:
    # A new thread would otherwise open a context on the first device.
    if isinstance(value, torch.Tensor):
        with torch.cuda.device(cuda_device):
            return value.pin_memory()
    if isinstance(value, dict):
        return {key: _pin(entry, cuda_device) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(_pin(entry, cuda_device) for entry in value)
    return value
