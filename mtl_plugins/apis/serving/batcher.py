"""Single requests to batches, and a queue that says no in time."""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np


class QueueFull(Exception):
    """As many images wait as may."""


class Batcher:
    """Collects images of one size that wait at the same time, up to a number, and predicts them together in one thread.

    Nothing waits for company: a batch is what has come while the one before was computed. Images are taken in their order;
    those of another size than the first stay for a later batch.

    Args:
        predict: Of a batch of images ``(H, W, 3)`` of one size: a result for each. Called by one thread at a time.
        batch_size: Images at a time.
        queue_size: Images that may wait.
    """

    def __init__(self, predict: Callable[[Sequence[np.ndarray]], Sequence[Any]], batch_size: int, queue_size: int) -> None:
        self.predict = predict
        self.batch_size = batch_size
        self.queue_size = queue_size
        self.batches = self.images = 0
        self._waiting: deque[tuple[np.ndarray, asyncio.Future]] = deque()
        self._pool = ThreadPoolExecutor(1, thread_name_prefix='model')
        self._worker: asyncio.Task | None = None

    @property
    def waiting(self) -> int:
        """How many images wait."""
        return len(self._waiting)

    async def submit(self, image: np.ndarray) -> Any:
        """The result for an image.

        Raises:
            QueueFull: If as many wait as may.
            Exception: What ``predict`` raises of the batch.
        """
        if len(self._waiting) >= self.queue_size:
            raise QueueFull
        future = asyncio.get_running_loop().create_future()
        self._waiting.append((image, future))
        if self._worker is None or self._worker.done():
            self._worker = asyncio.create_task(self._work())
        return await future

    async def _work(self) -> None:
        while self._waiting:
            batch = self._take()
            if not batch:
                continue
            self.batches += 1
            self.images += len(batch)
            try:
                results = await asyncio.get_running_loop().run_in_executor(
                    self._pool, self.predict, [image for image, _ in batch]
                )
                for (_, future), result in zip(batch, results, strict=True):
                    if not future.done():
                        future.set_result(result)
            except Exception as error:
                for _, future in batch:
                    if not future.done():
                        future.set_exception(error)

    def _take(self) -> list[tuple[np.ndarray, asyncio.Future]]:
        """The next batch, without those that nobody waits for any more."""
        waiting = [item for item in self._waiting if not item[1].done()]
        same = [item for item in waiting if item[0].shape == waiting[0][0].shape][: self.batch_size]
        chosen = {id(item) for item in same}
        self._waiting = deque(item for item in waiting if id(item) not in chosen)
        return same

    def close(self) -> None:
        """End the thread after the batch at hand."""
        self._pool.shutdown(wait=True)
