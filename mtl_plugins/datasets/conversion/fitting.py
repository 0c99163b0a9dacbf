"""Samples cut to a shape and scaled, labels aligned with their image."""

import cv2
import numpy as np

from mtl_plugins.datasets.packing.packed import Sample


def centre_window(shape: tuple[int, int], size: tuple[int, int]) -> tuple[slice, slice]:
    """Rows and columns of the largest centred window of ``shape`` (height, width) with the proportions of ``size``.

    Its longer side is rounded to whole pixels; of an odd number of spare pixels the last rows or columns lose one more.
    """
    height, width = shape
    if width * size[0] >= height * size[1]:
        width = max(round(height * size[1] / size[0]), 1)
    else:
        height = max(round(width * size[0] / size[1]), 1)
    top, left = (shape[0] - height) // 2, (shape[1] - width) // 2
    return slice(top, top + height), slice(left, left + width)


def fit_sample(sample: Sample, size: tuple[int, int] | None) -> Sample:
    """A sample cut to the proportions of ``size`` (height, width), by :func:`centre_window`, and scaled to it.

    Pixel centres correspond: output pixel ``i`` of ``n`` lies at ``(i + 0.5) * m / n - 0.5`` of ``m`` input pixels. Images are
    averaged over areas where they shrink and bilinear where they grow. Every other map takes the value of the nearest pixel, so
    no value appears that was not there. Without ``size`` nothing changes.
    """
    if size is None:
        return sample
    shape = sample['img'].shape[:2]
    rows, columns = centre_window(shape, size)
    window = {key: np.ascontiguousarray(array[rows, columns]) for key, array in sample.items()}
    height, width = window['img'].shape[:2]
    smooth = cv2.INTER_AREA if size[0] * size[1] < height * width else cv2.INTER_LINEAR
    return {key: _resize(array, size, smooth if key == 'img' else cv2.INTER_NEAREST_EXACT) for key, array in window.items()}


def _resize(array: np.ndarray, size: tuple[int, int], interpolation: int) -> np.ndarray:
    return array if array.shape[:2] == tuple(size) else cv2.resize(array, size[::-1], interpolation=interpolation)
