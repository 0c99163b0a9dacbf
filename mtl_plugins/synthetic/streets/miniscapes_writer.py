"""Writes generated street scenes as a MiniScapes data root.

Each split is generated under ``.incomplete_<split>`` and renamed when it is whole, so an interrupted run never looks like a
complete one. The labels of the test split go to ``<root>/grader/test/<label>``.
"""

import io
import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from mtl_plugins.errors import ArgumentError
from mtl_plugins.evaluation.functional.scorer import IGNORE_LABEL
from mtl_plugins.labels.cityscapes_classes import PALETTE
from mtl_plugins.labels.depth_codec import encode_label
from mtl_plugins.labels.presets import MINISCAPES_TASKS
from mtl_plugins.labels.surface_normals import encode_normals
from mtl_plugins.synthetic.generation import encode_jpeg, generating
from mtl_plugins.synthetic.streets.street_scenes import SPLITS, Rendering, render_sample

PNG_COMPRESSION = 1
_PALETTE_BYTES = bytes(channel for colour in PALETTE for channel in colour) + bytes(3 * (256 - len(PALETTE)))


def encode_rendering(rendering: Rendering, labels: Sequence[str] = MINISCAPES_TASKS) -> dict[str, bytes]:
    """The contents of the files by folder: ``rgb`` (JPEG) and those of ``labels`` (PNG), see ``MINISCAPES_LABELS``."""
    return dict(rgb=encode_jpeg(rendering.image), **{name: _ENCODERS[name](rendering) for name in labels})


def _encode_semseg(rendering: Rendering) -> bytes:
    label = Image.fromarray(rendering.label, mode='P')
    label.putpalette(_PALETTE_BYTES)
    content = io.BytesIO()
    label.save(content, 'png', compress_level=PNG_COMPRESSION)
    return content.getvalue()


def _encode_png(array: np.ndarray) -> bytes:
    """A PNG of grey or, in OpenCV's order, of blue, green, red."""
    return cv2.imencode('.png', array, [cv2.IMWRITE_PNG_COMPRESSION, PNG_COMPRESSION])[1].tobytes()


def semantic_boundaries(label: np.ndarray, radius: int = 1) -> np.ndarray:
    """Boundaries ``(H, W)`` of class ids ``(H, W)`` uint8, 255 = ignored: 1 on a boundary, 0 elsewhere, 255 where ignored.

    A pixel lies on a boundary if a pixel within ``radius`` of it, in each axis, has another class; ignored ones are no class.
    With radius 1 boundaries are two pixels wide, one on each side.
    """
    window = np.ones((2 * radius + 1, 2 * radius + 1), np.uint8)
    ignored = label == IGNORE_LABEL
    # The borders of cv2's filters count as nothing; an ignored pixel counts as nothing in either filter.
    largest = cv2.dilate(np.where(ignored, 0, label), window)
    smallest = cv2.erode(label, window)
    boundary = (largest != smallest).astype(np.uint8)
    boundary[ignored] = IGNORE_LABEL
    return boundary


_ENCODERS = dict(
    semseg=_encode_semseg,
    depth=lambda rendering: _encode_png(encode_label(rendering.depth)),
    normals=lambda rendering: _encode_png(np.ascontiguousarray(encode_normals(rendering.normals)[..., ::-1])),
    boundary=lambda rendering: _encode_png(semantic_boundaries(rendering.label)),
)


def _write_sample(
    index: int, seed: int, split: str, size: tuple[int, int], images: Path, labels: Path, kinds: tuple[str, ...]
) -> None:
    rendering = render_sample(seed, split, index, size, with_normals='normals' in kinds)
    for folder, content in encode_rendering(rendering, kinds).items():
        place, suffix = (images, 'jpg') if folder == 'rgb' else (labels, 'png')
        (place / folder / f'{index}.{suffix}').write_bytes(content)


def write_miniscapes(
    out: str | os.PathLike,
    num_train: int,
    num_val: int,
    num_test: int,
    size: tuple[int, int] = (256, 512),
    seed: int = 0,
    workers: int = 1,
    labels: Sequence[str] = MINISCAPES_TASKS,
) -> Path:
    """Generate a MiniScapes data root of street scenes.

    Sample ``index`` of a split depends on ``(seed, split, index, size)`` only, not on the number of workers or samples.

    Args:
        out: New or empty folder, which is returned.
        num_train, num_val, num_test: Number of samples; a split of 0 samples is left out.
        size: (height, width) in pixels, each at least 32.
        seed: Non-negative.
        workers: Processes, spawned; 0 and 1 generate in this one.
        labels: Which labels to write, out of ``MINISCAPES_LABELS``; all are exact from the geometry.

    Raises:
        ArgumentError: If a number is out of range.
        DataError: As :func:`generating` does.
    """
    counts = dict(zip(SPLITS, (num_train, num_val, num_test), strict=True))
    if isinstance(labels, str) or not labels or len(set(labels)) < len(labels) or not set(labels) <= set(_ENCODERS):
        raise ArgumentError(f'`labels` should be different names out of {list(_ENCODERS)}. Found {labels!r}.')
    with generating(out, counts, size, seed, workers) as (root, render):
        for split in filter(counts.get, counts):
            images = root / f'.incomplete_{split}'
            targets = root / 'grader' / f'.incomplete_{split}' if split == 'test' else images
            for folder in (images / 'rgb', *(targets / kind for kind in labels)):
                folder.mkdir(parents=True)
            options = dict(seed=seed, split=split, size=tuple(size), images=images, labels=targets, kinds=tuple(labels))
            for _ in render(partial(_write_sample, **options), split):
                pass
            if targets != images:
                targets.rename(targets.with_name(split))
            images.rename(root / split)
    return root
