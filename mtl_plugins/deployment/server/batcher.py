"""Single requests to batches, and a queue that says no in time."""

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from mtl_plugins.apis.inference.tiles import count_pixels


class QueueFull(Exception):
    """No more images may wait."""


class Batcher:
    """Collects images of one size that wait at the same time, and predicts them together in one thread.

    Requests are never delayed to fill a batch: a batch has what came while the one before was computed.

    Args:
        predict: Called with images ``(H, W, 3)`` of one size, by one thread at a time; gives a result for each.
        batch_size: Images at a time.
        queue_size: Images that may wait.
        max_pixels: Of a batch, each side of an image rounded up as by :func:`count_pixels`, which an image alone may exceed. None
            is no limit.
    """

    def __init__(
        self, predict: Callable[[Sequence], Sequence], batch_size: int, queue_size: int, max_pixels: int | None = None
    ) -> None:
        self.predict = predict
        self.batch_size, self.queue_size = batch_size, queue_size
        self.max_pixels = float('inf') if max_pixels is None else max_pixels
        # The images that wait, oldest first, by their results.
        self._jobs: dict[asyncio.Future, np.ndarray] = {}
        self._pool = ThreadPoolExecutor(1, thread_name_prefix='model')
        self._worker: asyncio.Task | None = None

    @property
    def waiting(self) -> int:
        """The number of images that wait."""
        return len(self._jobs)

    async def submit(self, image: np.ndarray) -> Any:
        """Return the result of an image; raise `QueueFull` if too many wait. Whoever stops waiting takes it out of the queue."""
        if self.waiting >= self.queue_size:
            raise QueueFull
        result = asyncio.get_running_loop().create_future()
        self._jobs[result] = image
        if self._worker is None or self._worker.done():
            self._worker = asyncio.create_task(self._work())
        try:
            return await result
        finally:
            self._jobs.pop(result, None)

    async def _work(self) -> None:
        while self._jobs:
            batch = self._take()
            try:
                found = await asyncio.get_running_loop().run_in_executor(self._pool, self.predict, list(batch.values()))
                for result, each in zip(batch, found, strict=True):
                    if not result.done():
                        result.set_result(each)
            except Exception as error:
                for result in batch:
                    if not result.done():
                        result.set_exception(error)

    def _take(self) -> dict[asyncio.Future, np.ndarray]:
        """Take the next batch out of the queue: the oldest image, and those of its size."""
        shape = next(iter(self._jobs.values())).shape
        most = max(int(min(self.batch_size, self.max_pixels / count_pixels(*shape[:2]))), 1)
        same = [result for result, image in self._jobs.items() if image.shape == shape][:most]
        return {result: self._jobs.pop(result) for result in same}
