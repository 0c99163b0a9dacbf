"""Single requests to batches, in an order that is fair to small images, and a queue that says no in time."""

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np

from mtl_plugins.apis.inference.tiles import count_pixels

# Threads that decode uploads and encode answers: as many for small images as for large ones, and what is small, in pixels.
CODERS = 2
SMALL = 2**20
# A pixel of a file takes a fraction of the time that one takes in the network.
FILE_SHARE = 8


class QueueFull(Exception):
    """No more images may wait, or a smaller one took the place."""


@dataclass(eq=False)
class _Job:
    """An image on its way: the pixels that the network gets, its weight in the queue, and the result of the request."""

    pixels: int
    weight: int
    result: asyncio.Future
    image: np.ndarray | None = None
    taken: bool = False

    @property
    def waits(self) -> bool:
        return not self.taken and not self.result.done()

    def refuse(self, error: Exception) -> None:
        if not self.result.done():
            self.result.set_exception(error)


class Batcher:
    """Collects images of one size that wait at the same time, and predicts them together in one thread.

    Requests are never delayed to fill a batch: a batch has what came while the one before was computed. Large images do not hold
    up small ones: after a batch that starts with the oldest image come as many pixels of batches that start with the smallest.
    When the queue is full, an image takes the places of larger ones.

    Args:
        predict: Called with images ``(H, W, 3)`` of one size, by one thread at a time; gives a result for each.
        batch_size: Images at a time.
        queue_size: Images that may wait.
        max_pixels: Of a batch, each side of an image rounded up as by :func:`count_pixels`, which an image alone may exceed; four
            times as many may wait. None is no limit.
    """

    def __init__(
        self, predict: Callable[[Sequence], Sequence], batch_size: int, queue_size: int, max_pixels: int | None = None
    ) -> None:
        self.predict = predict
        self.batch_size, self.queue_size = batch_size, queue_size
        self.max_pixels = float('inf') if max_pixels is None else max_pixels
        self._jobs: list[_Job] = []
        # Pixels for which the smallest images go first.
        self._credit = 0
        self._pool = ThreadPoolExecutor(1, thread_name_prefix='model')
        self._small_coders, self._large_coders = (ThreadPoolExecutor(CODERS, thread_name_prefix='coder') for _ in range(2))
        self._worker: asyncio.Task | None = None
        self._ended = False

    @property
    def waiting(self) -> int:
        """The number of images that wait."""
        return sum(job.waits for job in self._jobs)

    async def submit(
        self, pixels: int, prepare: Callable[[], np.ndarray], encode: Callable[[Any], Any], file_pixels: int = 0
    ) -> Any:
        """Prepare an image in a thread, predict it and return its encoded result.

        The network will see about ``pixels``; ``prepare`` has to decode ``file_pixels``. Raises `QueueFull` if too many images
        wait, or smaller ones come while this one waits.
        """
        loop = asyncio.get_running_loop()
        job = _Job(pixels, max(pixels, file_pixels // FILE_SHARE), loop.create_future())
        coders = self._small_coders if max(pixels, file_pixels) <= SMALL else self._large_coders
        self._make_room(job)
        self._jobs.append(job)
        try:
            image = await loop.run_in_executor(coders, lambda: None if job.result.done() else prepare())
            if not job.result.done():
                job.image, job.pixels = image, count_pixels(*image.shape[:2])
                if self._worker is None or self._worker.done():
                    self._worker = asyncio.create_task(self._work())
            result = await job.result
            return await loop.run_in_executor(coders, encode, result)
        finally:
            self._jobs.remove(job)
            if job.result.done() and not job.result.cancelled():
                job.result.exception()  # Nobody else asks for it.
            job.result.cancel()

    def _make_room(self, job: _Job) -> None:
        waiting = [other for other in self._jobs if other.waits]
        larger = sorted((other for other in waiting if other.weight > job.weight), key=lambda other: other.weight)
        pixels, dropped = sum(other.pixels for other in waiting), []
        while len(waiting) - len(dropped) >= self.queue_size or (pixels and pixels + job.pixels > 4 * self.max_pixels):
            if not larger:
                raise QueueFull
            dropped.append(larger.pop())
            pixels -= dropped[-1].pixels
        # Those at work and those whose results are encoded.
        if self._ended or len(self._jobs) - len(dropped) >= self.queue_size + 2 * self.batch_size:
            raise QueueFull
        for other in dropped:
            other.refuse(QueueFull())

    async def _work(self) -> None:
        while batch := self._take():
            images = [job.image for job in batch]
            try:
                results = await asyncio.get_running_loop().run_in_executor(self._pool, self.predict, images)
                for job, result in zip(batch, results, strict=True):
                    if not job.result.done():
                        job.result.set_result(result)
            except Exception as error:
                for job in batch:
                    job.refuse(error)

    def _take(self) -> list[_Job]:
        """Return the next batch, without the images that nobody waits for any more."""
        ready = [job for job in self._jobs if job.waits and job.image is not None]
        if not ready:
            return []
        is_owed = self._credit > 0
        first = min(ready, key=lambda job: job.pixels) if is_owed else ready[0]
        most = max(int(min(self.batch_size, self.max_pixels / first.pixels)), 1)
        batch = [job for job in ready if job.image.shape == first.image.shape][:most]
        pixels = sum(job.pixels for job in batch)
        self._credit = self._credit - pixels if is_owed else pixels
        for job in batch:
            job.taken = True
        return batch

    def end(self, everything: bool = False) -> None:
        """Refuse the images that wait, and all that come; with ``everything`` those of the batch at work, too."""
        self._ended = True
        for job in self._jobs:
            if everything or not job.taken:
                job.refuse(QueueFull())

    def close(self) -> None:
        """End the threads when they have done what they are at."""
        for pool in (self._pool, self._small_coders, self._large_coders):
            pool.shutdown(wait=False, cancel_futures=True)
