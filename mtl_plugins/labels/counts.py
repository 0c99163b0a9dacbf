"""Counts of each value, at each pixel position of a set of maps or over all of them."""

from collections.abc import Callable, Iterable

import numpy as np

from mtl_plugins.errors import DataError


def count_values(maps: Iterable[np.ndarray], num_values: int) -> np.ndarray:
    """Return counts ``(H, W, num_values)`` over maps ``(H, W)`` uint8 of one size; larger values count as the last one."""
    counts = None
    for values in maps:
        if counts is None:
            counts = np.zeros((*values.shape, num_values), dtype=np.uint32)
            first_of_position = np.arange(values.size) * num_values
        check_size(values, counts)
        counts.reshape(-1)[first_of_position + np.minimum(values, num_values - 1).ravel()] += 1
    if counts is None:
        raise DataError('There should be at least one label. Found none.')
    return counts


def check_size(values: np.ndarray, reference: np.ndarray) -> None:
    """Raise `DataError` if a map has not the height and width of ``reference``."""
    if values.shape[:2] != reference.shape[:2]:
        raise DataError(f'All labels should have the size of the first, {reference.shape[:2]}. Found {values.shape[:2]}.')


def guess_by_row(counts: np.ndarray, guess: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """``guess`` maps counts ``(N, values)`` to values ``(N,)``; applied row by row, since it needs a multiple of the memory.

    A position without any count gets the guess of all positions together.

    Raises:
        DataError: If there is no count at all.
    """
    overall = counts.sum(axis=(0, 1), dtype=np.int64)
    if not overall.any():
        raise DataError('The training labels have no valid pixel.')
    fallback = guess(overall[None])[0]
    return np.stack([np.where(row.any(axis=1), guess(row), fallback) for row in counts]).astype(np.uint8)


def median(counts: np.ndarray) -> np.ndarray:
    """The median; the larger one of two middle values."""
    cumulated = counts.cumsum(axis=1, dtype=np.int64)
    return (2 * cumulated >= cumulated[:, -1:]).argmax(axis=1)


def mean_and_std(values: np.ndarray, counts: np.ndarray) -> tuple[float, float]:
    """Mean and population standard deviation (divisor N) of ``values`` that occur ``counts`` times; NaN for no value."""
    total = counts.sum()
    if total == 0:
        return float('nan'), float('nan')
    mean = (values * counts).sum() / total
    return float(mean), float(np.sqrt((np.square(values - mean) * counts).sum() / total))
