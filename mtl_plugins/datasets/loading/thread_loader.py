"""A data loader whose workers are threads: decoding releases the interpreter lock, so nothing need cross a process border."""

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import Any

import cv2
import torch
from torch.utils.data import DataLoader, Dataset


class ThreadDataLoader(DataLoader):
    """PyTorch's `DataLoader` with threads instead of worker processes.

    Batches come in the sampler's order, ``prefetch_factor * num_workers`` are on their way at any time, and an exception in a
    worker is raised as it is. Leaving the iterator, or dropping it, stops the threads. With ``num_workers=0`` batches are made
    in the caller's thread.

    Args:
        dataset: Map-style dataset whose ``__getitem__`` may be called from several threads.
        batch_size: Samples per batch, or None with ``batch_sampler``.
        num_workers: Number of threads.
        prefetch_factor: Batches per thread made ahead.
        persistent_workers, worker_init_fn: Ignored; configs written for processes have them.
        **kwargs: Of PyTorch's ``DataLoader``.
    """

    def __init__(
        self,
        dataset: Dataset,
        batch_size: int | None = 1,
        num_workers: int = 2,
        prefetch_factor: int | None = 2,
        persistent_workers: bool = False,
        worker_init_fn: Callable | None = None,
        **kwargs: Any,
    ):
        prefetch_factor = prefetch_factor if num_workers > 0 else None
        super().__init__(dataset, batch_size, num_workers=num_workers, prefetch_factor=prefetch_factor, **kwargs)

    def check_worker_number_rationality(self) -> None:
        """Nothing to warn of: more threads than cores cost little."""

    def __iter__(self) -> Iterator[Any]:
        cuda_device = torch.cuda.current_device() if self.pin_memory and torch.cuda.is_available() else None
        if self.num_workers == 0:
            return (self._load(keys, cuda_device) for keys in self._index_sampler)
        return self._iterate(cuda_device)

    def _iterate(self, cuda_device: int | None) -> Iterator[Any]:
        cv2.setNumThreads(0)
        batches = iter(self._index_sampler)
        pool = ThreadPoolExecutor(self.num_workers, thread_name_prefix='data')
        pending: deque[Future] = deque()
        try:
            for keys in islice(batches, self.num_workers * self.prefetch_factor):
                pending.append(pool.submit(self._load, keys, cuda_device))
            while pending:
                batch = pending.popleft().result()
                for keys in islice(batches, 1):
                    pending.append(pool.submit(self._load, keys, cuda_device))
                yield batch
        finally:
            pool.shutdown(wait=True, cancel_futures=True)

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
