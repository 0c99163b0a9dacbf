"""Writes generated street scenes as a MiniScapes data root.

Each split is generated under ``.incomplete_<split>`` and renamed when it is whole, so an interrupted run never looks like a
complete one. The labels of the test split go to ``<root>/grader/test/{semseg,depth}``.
"""

import io
import multiprocessing
import os
import signal
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path

import cv2
from PIL import Image
from tqdm import tqdm

from mtl_plugins.errors import DataError
from mtl_plugins.labels.cityscapes_classes import PALETTE
from mtl_plugins.labels.depth_codec import encode_label
from mtl_plugins.synthetic.streets.street_scenes import SPLITS, Rendering, render_sample
from mtl_plugins.utils.files import describe_os_error

JPEG_QUALITY = 92
PNG_COMPRESSION = 1
MIN_SIDE = 32
_PALETTE_BYTES = bytes(channel for colour in PALETTE for channel in colour) + bytes(3 * (256 - len(PALETTE)))
_CHUNK = 4


@dataclass(frozen=True)
class _Job:
    """One sample to generate; ``images`` and ``labels`` are the folders its files go to."""

    seed: int
    split: str
    index: int
    size: tuple[int, int]
    images: str
    labels: str


def encode_rendering(rendering: Rendering) -> tuple[bytes, bytes, bytes]:
    """The contents of the files ``rgb`` (JPEG), ``semseg`` (palette PNG) and ``depth`` (grey PNG of disparity codes)."""
    bgr = cv2.cvtColor(rendering.image, cv2.COLOR_RGB2BGR)
    jpeg = cv2.imencode('.jpg', bgr, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])[1].tobytes()
    label = Image.fromarray(rendering.label, mode='P')
    label.putpalette(_PALETTE_BYTES)
    semseg = io.BytesIO()
    label.save(semseg, 'png', compress_level=PNG_COMPRESSION)
    depth = cv2.imencode('.png', encode_label(rendering.depth), [cv2.IMWRITE_PNG_COMPRESSION, PNG_COMPRESSION])[1].tobytes()
    return jpeg, semseg.getvalue(), depth


def _write_sample(job: _Job) -> None:
    contents = encode_rendering(render_sample(job.seed, job.split, job.index, job.size))
    folders = (f'{job.images}/rgb', f'{job.labels}/semseg', f'{job.labels}/depth')
    for content, folder, suffix in zip(contents, folders, ('jpg', 'png', 'png'), strict=True):
        Path(folder, f'{job.index}.{suffix}').write_bytes(content)


def _start_worker() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # The parent handles an interrupt and ends its workers.
    cv2.setNumThreads(1)


def _run(jobs: list[_Job], pool: ProcessPoolExecutor | None) -> Iterator[None]:
    """Execute the jobs in the pool, or in this process if there is none, yielding after each."""
    if pool is not None:
        yield from pool.map(_write_sample, jobs, chunksize=_CHUNK)
        return
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        for job in jobs:
            yield _write_sample(job)
    finally:
        cv2.setNumThreads(threads)


def write_miniscapes(
    out: str | os.PathLike,
    num_train: int,
    num_val: int,
    num_test: int,
    size: tuple[int, int] = (256, 512),
    seed: int = 0,
    workers: int = 1,
    progress: bool = True,
) -> Path:
    """Generate a MiniScapes data root of street scenes.

    Sample ``index`` of a split depends on ``(seed, split, index, size)`` only, not on the number of workers or samples.

    Args:
        out: Folder to make; it may exist if it is empty.
        num_train, num_val, num_test: Number of samples; a split of 0 samples is left out.
        size: (height, width) in pixels, each at least 32.
        seed: Non-negative.
        workers: Processes; 0 and 1 generate in this one. A script that asks for more needs the usual
            ``if __name__ == '__main__'`` guard, since workers are spawned.
        progress: Show a progress bar on standard error.

    Returns:
        ``out`` as a path.

    Raises:
        ValueError: If a number is out of range.
        DataError: If ``out`` holds something already, is no folder, or the disk is full.
    """
    counts = dict(zip(SPLITS, (num_train, num_val, num_test), strict=True))
    if min(counts.values()) < 0 or sum(counts.values()) == 0:
        raise ValueError(f'The numbers of samples should be >= 0, and not all 0. Found {tuple(counts.values())}.')
    if min(size) < MIN_SIDE:
        raise ValueError(f'`size` should be at least {MIN_SIDE}x{MIN_SIDE}. Found {size[0]}x{size[1]}.')
    if seed < 0 or workers < 0:
        raise ValueError(f'`seed` and `workers` should be >= 0. Found {seed} and {workers}.')
    root = Path(out)
    if root.exists() and not root.is_dir():
        raise DataError(f'{root} is a file; choose a new folder for the data set.')
    if root.is_dir() and any(root.iterdir()):
        raise DataError(f'{root} is not empty; choose a new folder, or remove it first.')
    pool = None
    if min(workers, max(counts.values())) > 1:
        pool = ProcessPoolExecutor(workers, multiprocessing.get_context('spawn'), _start_worker)
    try:
        for split, count in counts.items():
            if count:
                _write_split(root, split, count, size, seed, pool, progress)
    except BrokenProcessPool as error:
        raise DataError(f'A rendering process ended unexpectedly; remove {root} and run again with fewer workers.') from error
    except OSError as error:
        raise DataError(f'{describe_os_error(error, root)} Free space, remove the folder and run again.') from error
    finally:
        if pool is not None:
            pool.shutdown(cancel_futures=True)
    return root


def _write_split(
    root: Path, split: str, count: int, size: tuple[int, int], seed: int, pool: ProcessPoolExecutor | None, progress: bool
) -> None:
    images = root / f'.incomplete_{split}'
    labels = root / 'grader' / f'.incomplete_{split}' if split == 'test' else images
    for folder in (images / 'rgb', labels / 'semseg', labels / 'depth'):
        folder.mkdir(parents=True)
    jobs = [_Job(seed, split, index, tuple(size), str(images), str(labels)) for index in range(count)]
    bar = tqdm(_run(jobs, pool), total=count, desc=f'{split} {size[0]}x{size[1]}', unit='img', disable=not progress)
    for _ in bar:
        pass
    if labels != images:
        labels.rename(labels.with_name(split))
    images.rename(root / split)
