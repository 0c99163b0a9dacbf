"""Masks of COCO's annotations: polygons and run lengths to pixels."""

from collections.abc import Sequence
from types import ModuleType

import numpy as np

from mtl_plugins.errors import ArgumentError, DataError

# A polygon as the bytes of its float64 coordinates x, y, x, y, ..., which keeps a large split small; or COCO's RLE.
Segmentation = list[bytes] | dict


def import_pycocotools() -> ModuleType:
    """Import ``pycocotools.mask``."""
    try:
        from pycocotools import mask
    except ImportError:
        raise DataError('pycocotools is not installed, but COCO annotations need it. Install the extra `coco`.') from None
    return mask


def pack_segmentation(segmentation: list | dict, size: tuple[int, int]) -> Segmentation:
    """Check the ``segmentation`` of an annotation and make it compact; raise ValueError if it is neither polygons nor RLE.

    Polygons of fewer than three points cover nothing and are left out. Points may lie out of the image by as much as its longer
    side; what is out of it is cut off when the mask is made.
    """
    if isinstance(segmentation, dict):
        if list(segmentation['size']) != list(size):
            raise ValueError(f'its RLE is of size {segmentation["size"]}, but its image of {list(size)}')
        if not isinstance(segmentation['counts'], (list, str)):
            raise ValueError('its RLE counts are no list or string')
        return dict(size=tuple(size), counts=segmentation['counts'])
    polygons = [np.asarray(polygon, np.float64) for polygon in segmentation]
    for polygon in polygons:
        if polygon.ndim != 1 or len(polygon) % 2:
            raise ValueError('a polygon of it is no list of x, y, x, y, ...')
        # NaN fails the comparison.
        if len(polygon) and not (-max(size) <= polygon.min() and polygon.max() <= 2 * max(size)):
            raise ValueError('a polygon of it lies far out of its image')
    return [polygon.tobytes() for polygon in polygons if len(polygon) >= 6]


def to_mask(segmentation: Segmentation, size: tuple[int, int]) -> np.ndarray:
    """The pixels ``(H, W)``, boolean, of what `pack_segmentation` gives; polygons by the rule of COCO's own tools."""
    if isinstance(segmentation, dict):
        counts = segmentation['counts']
    elif segmentation:
        pycocotools = import_pycocotools()
        polygons = [np.frombuffer(polygon).tolist() for polygon in segmentation]
        counts = pycocotools.merge(pycocotools.frPyObjects(polygons, *size))['counts'].decode()
    else:
        return np.zeros(size, bool)
    runs = decode_counts(counts)
    if runs.min(initial=0) < 0 or runs.sum() != size[0] * size[1]:
        raise ArgumentError(f'the runs of its RLE should add up to {size[0]}x{size[1]} pixels, and add up to {runs.sum()}')
    return np.repeat(np.arange(len(runs)) % 2 == 1, runs).reshape(size[::-1]).T


def decode_counts(counts: Sequence[int] | str) -> np.ndarray:
    """Lengths of the runs of 0, 1, 0, ... down the columns, int64.

    In the compressed form each run is a number of 5-bit digits, the least first, each as the character ``48 + digit``, plus 32
    if another one follows; bit 4 of the last is the sign. From the fourth run on the difference to the one before the last is
    stored. pycocotools is not used because it returns memory that nobody wrote where a string ends early.
    """
    if not isinstance(counts, str):
        return np.array(counts, np.int64).reshape(-1)
    codes = np.frombuffer(counts.encode('latin-1', 'replace'), np.uint8).astype(np.int64) - 48
    last = (codes & 32) == 0
    if len(codes) == 0 or codes.min() < 0 or codes.max() > 63 or not last[-1]:
        raise ValueError('its RLE counts are damaged')
    starts = np.concatenate([[0], np.flatnonzero(last)[:-1] + 1])
    lengths = np.diff(np.append(starts, len(codes)))
    if lengths.max() > 7:
        raise ValueError('its RLE counts are damaged')
    digits = (codes & 31) << (5 * (np.arange(len(codes)) - np.repeat(starts, lengths)))
    runs = np.add.reduceat(digits, starts) - np.where(codes[last] & 16, 1 << (5 * lengths), 0)
    for first in (1, 2):
        runs[first::2] = np.cumsum(runs[first::2])
    return runs
