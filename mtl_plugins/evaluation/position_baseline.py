"""The best guess without looking at the image: most frequent class and median depth of each pixel position.

What a model must beat to show that it sees something. Both guesses are learned from the training labels, one file at a
time; the counters take ``2 * H * W * (20 + 256)`` bytes (twice that above 65,535 images), 72 MB for 256x512.
"""

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from mtl_plugins.errors import DataError
from mtl_plugins.evaluation.label_folder import find_labels, score_predictions
from mtl_plugins.labels.cityscapes_classes import CLASSES
from mtl_plugins.labels.decoding import decode_depth_code, decode_label
from mtl_plugins.labels.depth_codec import NUM_CODES


def fit_position_baseline(labels: str | Path) -> dict[str, np.ndarray]:
    """The guess for each task with labels: ``(H, W)`` uint8 class ids (``'semseg'``) and depth codes (``'depth'``).

    Of an even number of depths the farther of the two middle ones counts. A position that never had a valid label gets
    the guess made from all positions together.

    Args:
        labels: Folder with ``semseg/<index>.png`` and/or ``depth/<index>.png``, such as ``<root>/train``.

    Raises:
        DataError: If the labels are missing, broken, of different sizes, or have no valid pixel.
    """
    label_files = find_labels(labels)

    def fit(task: str) -> np.ndarray:
        paths = list(label_files[task].values())
        if task == 'semseg':
            return _guess(_count_values(paths, decode_label, len(CLASSES) + 1)[..., :-1], _most_frequent)
        return _guess(_count_values(paths, decode_depth_code, NUM_CODES)[..., 1:], _median) + np.uint8(1)

    with ThreadPoolExecutor(len(label_files)) as pool:
        return dict(zip(label_files, pool.map(fit, label_files), strict=True))


def score_position_baseline(baseline: Mapping[str, np.ndarray], labels: str | Path) -> dict[str, float]:
    """All scores of validation for the guesses of :func:`fit_position_baseline` on a folder of labels.

    Raises:
        DataError: If the labels are missing, broken, of another size, or lack a task.
    """

    def predict(task: str, stem: str, size: tuple[int, int]) -> np.ndarray:
        if baseline[task].shape != size:
            raise DataError(f'The baseline is for labels of the size {baseline[task].shape}. {task}/{stem}.png has {size}.')
        return baseline[task]

    label_files = find_labels(labels)
    missing = set(baseline) - set(label_files)
    if missing:
        raise DataError(f"The folder '{labels}' has no labels for {' and '.join(sorted(missing))}.")
    return score_predictions({task: label_files[task] for task in baseline}, predict)


def _count_values(paths: list[Path], decode: Callable[[str], np.ndarray], num_values: int) -> np.ndarray:
    """How often each value occurs at each position: ``(H, W, num_values)``; larger values count as the last one."""
    counts = None
    for path in paths:
        values = decode(str(path))
        if counts is None:
            counter = np.uint16 if len(paths) <= np.iinfo(np.uint16).max else np.uint32
            counts = np.zeros((*values.shape, num_values), dtype=counter)
            first_of_position = np.arange(values.size) * num_values
        if values.shape != counts.shape[:2]:
            raise DataError(f'All labels should have the size of the first, {counts.shape[:2]}. {path} has {values.shape}.')
        counts.reshape(-1)[first_of_position + np.minimum(values, num_values - 1).ravel()] += 1
    return counts


def _guess(counts: np.ndarray, guess: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """``guess`` maps counts ``(N, values)`` to values ``(N,)``; applied row by row, since it needs a multiple of the memory."""
    overall = counts.sum(axis=(0, 1), dtype=np.int64)
    if not overall.any():
        raise DataError('The training labels have no valid pixel.')
    fallback = guess(overall[None])[0]
    return np.stack([np.where(row.any(axis=1), guess(row), fallback) for row in counts]).astype(np.uint8)


def _most_frequent(counts: np.ndarray) -> np.ndarray:
    return counts.argmax(axis=1)


def _median(counts: np.ndarray) -> np.ndarray:
    cumulated = counts.cumsum(axis=1, dtype=np.int64)
    return (2 * cumulated >= cumulated[:, -1:]).argmax(axis=1)
