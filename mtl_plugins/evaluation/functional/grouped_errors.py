"""Means of the errors of pixels by the group that a pixel belongs to: a distance, a class, a place in the image."""

from collections.abc import Sequence

import numpy as np


def groups_between(values: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """Return the group ``k`` of each value, ``edges[k] <= value < edges[k + 1]``; -1 for values that are not positive.

    Values beyond the edges are in the outer groups.
    """
    groups = np.searchsorted(edges[1:-1], values, side='right')
    return np.where(values > 0, groups, -1)


def groups_of_places(size: tuple[int, int], grid: tuple[int, int]) -> np.ndarray:
    """Return the cell ``(H, W)`` int64 of each pixel of an image of ``size`` in a ``grid`` of rows and columns, row by row."""
    rows, columns = (np.arange(side) * cells // side for side, cells in zip(size, grid, strict=True))
    return rows[:, None] * grid[1] + columns[None, :]


class GroupedErrors:
    """Running sums of the errors of each group: constant memory over any number of images.

    Args:
        names: Of the groups.

    Attributes:
        sums: ``(2, groups)`` float64: number of pixels, and sum of their errors.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self.names = tuple(names)
        self.sums = np.zeros((2, len(self.names)))

    def add(self, errors: np.ndarray, groups: np.ndarray) -> None:
        """Add the pixels of an image; NaN and what belongs to no group ``0..N-1`` do not count."""
        number = len(self.names)
        counted = ~np.isnan(errors) & (groups >= 0) & (groups < number)
        groups, errors = groups[counted].astype(np.int64), errors[counted].astype(np.float64)
        self.sums += [np.bincount(groups, weights, number) for weights in (np.ones(len(errors)), errors)]

    @property
    def counts(self) -> np.ndarray:
        """Pixels in each group, int64."""
        return self.sums[0].astype(np.int64)

    @property
    def means(self) -> np.ndarray:
        """Mean error of each group, float64, NaN for one without a pixel."""
        counts, totals = self.sums
        return np.where(counts > 0, totals / np.maximum(counts, 1), np.nan)
