"""Writes generated street scenes as a MiniScapes data root.

Each split is generated under ``.incomplete_<split>`` and renamed when it is whole, so an interrupted run never looks like a
complete one. The labels of the test split go to ``<root>/grader/test/<label>``.
"""

import io
import multiprocessing
import os
import signal
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from PIL import Image
from tqdm import tqdm

from mtl_plugins.errors import ArgumentError, DataError
from mtl_plugins.labels.boundary_map import semantic_boundaries
from mtl_plugins.labels.cityscapes_classes import PALETTE
from mtl_plugins.labels.depth_codec import encode_label
from mtl_plugins.labels.presets import MINISCAPES_TASKS
from mtl_plugins.labels.surface_normals import encode_normals
from mtl_plugins.synthetic.streets.street_scenes import SPLITS, Rendering, render_sample
from mtl_plugins.utils.files import describe_os_error

JPEG_QUALITY = 92
PNG_COMPRESSION = 1
MIN_SIDE = 32
_PALETTE_BYTES = bytes(channel for colour in PALETTE for channel in colour) + bytes(3 * (256 - len(PALETTE)))
_CHUNK = 4


@dataclass(frozen=True)
class _Job:
    """One sample to generate; ``images`` and ``labels`` are the folders its files go to, ``kinds`` the names of its labels."""

    seed: int
    split: str
    index: int
    size: tuple[int, int]
    images: str
    labels: str
    kinds: tuple[str, ...]


def encode_rendering(rendering: Rendering, labels: Sequence[str] = MINISCAPES_TASKS) -> dict[str, bytes]:
    """The contents of the files by folder: ``rgb`` (JPEG) and those of ``labels`` (PNG), see ``MINISCAPES_LABELS``."""
    bgr = cv2.cvtColor(rendering.image, cv2.COLOR_RGB2BGR)
    contents = dict(rgb=cv2.imencode('.jpg', bgr, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])[1].tobytes())
    for name in labels:
        contents[name] = _ENCODERS[name](rendering)
    return contents


def _encode_semseg(rendering: Rendering) -> bytes:
    label = Image.fromarray(rendering.label, mode='P')
    label.putpalette(_PALETTE_BYTES)
    content = io.BytesIO()
    label.save(content, 'png', compress_level=PNG_COMPRESSION)
    return content.getvalue()


def _encode_png(array: np.ndarray) -> bytes:
    """A PNG of grey or, in OpenCV's order, of blue, green, red."""
    return cv2.imencode('.png', array, [cv2.IMWRITE_PNG_COMPRESSION, PNG_COMPRESSION])[1].tobytes()


_ENCODERS = dict(
    semseg=_encode_semseg,
    depth=lambda rendering: _encode_png(encode_label(rendering.depth)),
    normals=lambda rendering: _encode_png(np.ascontiguousarray(encode_normals(rendering.normals)[..., ::-1])),
    boundary=lambda rendering: _encode_png(semantic_boundaries(rendering.label)),
)


def _write_sample(job: _Job) -> None:
    rendering = render_sample(job.seed, job.split, job.index, job.size, with_normals='normals' in job.kinds)
    contents = encode_rendering(rendering, job.kinds)
    for folder, content in contents.items():
        place, suffix = (job.images, 'jpg') if folder == 'rgb' else (job.labels, 'png')
        Path(place, folder, f'{job.index}.{suffix}').write_bytes(content)


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
    labels: Sequence[str] = MINISCAPES_TASKS,
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
        progress: Show a progress bar on standard error, if that is a terminal.
        labels: Which labels to write, out of ``MINISCAPES_LABELS``; all are exact from the geometry.

    Returns:
        ``out`` as a path.

    Raises:
        ArgumentError: If a number is out of range.
        DataError: If ``out`` holds something already, is no folder, or the disk is full.
    """
    counts = dict(zip(SPLITS, (num_train, num_val, num_test), strict=True))
    if min(counts.values()) < 0 or sum(counts.values()) == 0:
        raise ArgumentError(f'The numbers of samples should be >= 0, and not all 0. Found {tuple(counts.values())}.')
    if min(size) < MIN_SIDE:
        raise ArgumentError(f'`size` should be at least {MIN_SIDE}x{MIN_SIDE}. Found {size[0]}x{size[1]}.')
    if seed < 0 or workers < 0:
        raise ArgumentError(f'`seed` and `workers` should be >= 0. Found {seed} and {workers}.')
    if isinstance(labels, str) or not labels or len(set(labels)) < len(labels) or not set(labels) <= set(_ENCODERS):
        raise ArgumentError(f'`labels` should be different names out of {list(_ENCODERS)}. Found {labels!r}.')
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
                _write_split(root, split, count, size, seed, pool, progress, tuple(labels))
    except BrokenProcessPool as error:
        raise DataError(f'A rendering process ended unexpectedly; remove {root} and run again with fewer workers.') from error
    except OSError as error:
        raise DataError(f'{describe_os_error(error, root)} Free space, remove the folder and run again.') from error
    finally:
        if pool is not None:
            pool.shutdown(cancel_futures=True)
    return root


def _write_split(
    root: Path,
    split: str,
    count: int,
    size: tuple[int, int],
    seed: int,
    pool: ProcessPoolExecutor | None,
    progress: bool,
    kinds: tuple[str, ...],
) -> None:
    images = root / f'.incomplete_{split}'
    labels = root / 'grader' / f'.incomplete_{split}' if split == 'test' else images
    for folder in (images / 'rgb', *(labels / kind for kind in kinds)):
        folder.mkdir(parents=True)
    jobs = [_Job(seed, split, index, tuple(size), str(images), str(labels), kinds) for index in range(count)]
    bar = tqdm(_run(jobs, pool), total=count, desc=f'{split} {size[0]}x{size[1]}', unit='img', disable=None if progress else True)
    for _ in bar:
        pass
    if labels != images:
        labels.rename(labels.with_name(split))
    images.rename(root / split)
