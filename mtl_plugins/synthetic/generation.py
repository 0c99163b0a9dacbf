"""Parts of the writers of generated data sets: checks, rendering processes, errors."""

import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np

from mtl_plugins.errors import ArgumentError, DataError
from mtl_plugins.utils.cli import track
from mtl_plugins.utils.files import describe_os_error

JPEG_QUALITY = 92
MIN_SIDE = 32
_CHUNK = 4


def encode_jpeg(image: np.ndarray) -> bytes:
    """The file of an RGB image ``(H, W, 3)`` uint8."""
    bgr = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
    return cv2.imencode('.jpg', bgr, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])[1].tobytes()


@contextmanager
def generating(
    out: str | os.PathLike, counts: Mapping[str, int], size: tuple[int, int], seed: int, workers: int
) -> Iterator[tuple[Path, Callable]]:
    """Check a request for a data set and give its folder and ``render(make, split)``.

    ``render`` iterates over ``make(index)`` of all images of a split, in order, in ``workers`` processes or, for 0 and 1, in
    this one.

    Raises:
        ArgumentError: If a number is out of range.
        DataError: If ``out`` holds something already, is no folder, or the disk is full.
    """
    if min(counts.values()) < 0 or sum(counts.values()) == 0:
        raise ArgumentError(f'The numbers of images should be >= 0, and not all 0. Found {tuple(counts.values())}.')
    if min(size) < MIN_SIDE:
        raise ArgumentError(f'`size` should be at least {MIN_SIDE}x{MIN_SIDE}. Found {size[0]}x{size[1]}.')
    if seed < 0 or workers < 0:
        raise ArgumentError(f'`seed` and `workers` should be >= 0. Found {seed} and {workers}.')
    root = Path(out)
    if root.exists() and not root.is_dir():
        raise DataError(f'{root} is a file; choose a new folder for the data set.')
    if root.is_dir() and any(root.iterdir()):
        raise DataError(f'{root} is not empty; choose a new folder, or remove it first.')
    pool = None
    if min(workers, max(counts.values())) > 1:
        pool = ProcessPoolExecutor(workers, multiprocessing.get_context('spawn'), _start_worker)

    def render(make: Callable, split: str) -> Iterator:
        indices = range(counts[split])
        results = map(make, indices) if pool is None else pool.map(make, indices, chunksize=_CHUNK)
        return track(results, len(indices), f'{split} {size[0]}x{size[1]}')

    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        yield root, render
    except BrokenProcessPool as error:
        raise DataError(f'A rendering process ended unexpectedly; remove {root} and run again with fewer workers.') from error
    except OSError as error:
        raise DataError(f'{describe_os_error(error, root)} Free space, remove the folder and run again.') from error
    finally:
        cv2.setNumThreads(threads)
        if pool is not None:
            pool.shutdown(cancel_futures=True)


def _start_worker() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # The parent handles an interrupt and ends its workers.
    cv2.setNumThreads(1)
