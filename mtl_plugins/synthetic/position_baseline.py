"""The best guess for each pixel position without looking at the image, from the training labels: what a model must beat.

Each label with counters takes ``4 * H * W * 256`` bytes, 134 MB for 256x512.
"""

from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from mtl_plugins.errors import DataError
from mtl_plugins.evaluation.label_folder import LabelFiles, find_labels, score_predictions
from mtl_plugins.labels.label_kind import LabelKind


def fit_position_baseline(labels: str | Path) -> dict[str, np.ndarray]:
    """Return the guess for each label of a folder, as the codes of a submission; see :func:`guess_codes`.

    Raises:
        DataError: If the labels are missing, broken, of different sizes, or have no valid pixel.
    """
    found = find_labels(labels)

    def fit(files: LabelFiles) -> np.ndarray:
        return guess_codes(files.kind, (files.kind.decode(str(path)) for path in files.paths.values()))

    with ThreadPoolExecutor(len(found)) as pool:
        return dict(zip(found, pool.map(fit, found.values()), strict=True))


def score_position_baseline(baseline: Mapping[str, np.ndarray], labels: str | Path) -> dict[str, float]:
    """Return all scores of validation for the guesses of :func:`fit_position_baseline` on a folder of labels.

    Raises:
        DataError: If the labels are missing, broken, of another size, or lack a task.
    """

    def predict(task: str, stem: str, size: tuple[int, int]) -> np.ndarray:
        if baseline[task].shape[:2] != size:
            raise DataError(f'The baseline is for labels of the size {baseline[task].shape[:2]}. {task}/{stem}.png has {size}.')
        return baseline[task]

    label_files = find_labels(labels)
    missing = set(baseline) - set(label_files)
    if missing:
        raise DataError(f"The folder '{labels}' has no labels for {' and '.join(sorted(missing))}.")
    return score_predictions({task: label_files[task] for task in baseline}, predict)


def guess_codes(kind: LabelKind, maps: Iterable[np.ndarray]) -> np.ndarray:
    """Return the codes of the most frequent class, the median depth, or else the mean value, of stored maps at each position.

    Of two middle depths the farther one counts. A position that no map knows gets the guess of all positions together.
    """
    is_counted, sums = kind.is_class_map or kind.is_depth, None
    for stored in maps:
        valid, values = kind.valid(stored), kind.to_values(stored)
        if sums is None:
            known = np.zeros(valid.shape, np.int64)
            sums = np.zeros((*valid.shape, 256), np.uint32) if is_counted else np.zeros(values.shape)
        if valid.shape != known.shape:
            raise DataError(f'All labels should have the size of the first, {known.shape}. Found {valid.shape}.')
        known += valid
        if not is_counted:
            sums[valid] += values[valid]
        elif valid.any():
            sums[(*np.nonzero(valid), kind.encode(values[valid], 'nearest'))] += 1
    if sums is None or not known.any():
        raise DataError('The training labels have no valid pixel.')
    overall = sums.sum((0, 1))
    if is_counted:
        # Row by row, since cumulated counts take a multiple of the memory.
        rows = (np.where(row.any(1, keepdims=True), row, overall) for row in sums)
        return np.stack([median(row) if kind.is_depth else row.argmax(1) for row in rows]).astype(np.uint8)
    if sums.ndim == 3:
        seen, known = sums.any(-1, keepdims=True), known[..., None]
    else:
        seen = known > 0
    means = np.where(seen, sums / np.maximum(known, 1), overall / known.sum())
    return kind.encode(means.astype(np.float32), 'nearest')


def median(counts: np.ndarray) -> np.ndarray:
    """Return the code in the middle of each row of counts; the lower one of two."""
    cumulated = counts.cumsum(axis=1, dtype=np.int64)
    return (2 * cumulated >= cumulated[:, -1:]).argmax(axis=1)
