"""Means of the errors of pixels by the group that a pixel belongs to: a distance, a class, a place in the image."""

from collections.abc import Sequence

import numpy as np

from mtl_plugins.errors import ArgumentError


def log_edges(lowest: float, highest: float, num_groups: int) -> np.ndarray:
    """``(num_groups + 1,)`` float64: edges of groups that are equally wide on a logarithmic scale."""
    return np.geomspace(lowest, highest, num_groups + 1)


def groups_between(values: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """Which group each positive value falls into, int64 of its shape: group ``k`` is ``edges[k] <= value < edges[k + 1]``.

    Values beyond the edges fall into the outer groups, so that none is lost; those that are not positive into none (-1).
    """
    groups = np.searchsorted(edges[1:-1], values, side='right')
    return np.where(values > 0, groups, -1)


def groups_of_places(size: tuple[int, int], grid: tuple[int, int]) -> np.ndarray:
    """The cell of each pixel of an image of ``size``, ``(H, W)`` int64, numbered row by row.

    The cells of a ``grid`` of rows and columns are equally large, up to a pixel; images of any size share them.
    """
    rows, columns = (np.arange(side) * cells // side for side, cells in zip(size, grid, strict=True))
    return rows[:, None] * grid[1] + columns[None, :]


def sum_by_group(errors: np.ndarray, groups: np.ndarray, num_groups: int) -> np.ndarray:
    """Number of pixels and sum of their errors in each group: ``(2, num_groups)`` float64.

    Args:
        errors: Of any shape; NaN does not count.
        groups: Of the same shape, integers; what is not in ``0..num_groups - 1`` belongs to no group.
        num_groups: Their number.

    Raises:
        ArgumentError: If the shapes differ.
    """
    if errors.shape != groups.shape:
        raise ArgumentError(f'`errors` and `groups` should have the same shape. Found {errors.shape} and {groups.shape}.')
    counted = ~np.isnan(errors) & (groups >= 0) & (groups < num_groups)
    groups, errors = groups[counted].astype(np.int64), errors[counted].astype(np.float64)
    return np.stack([np.bincount(groups, weights, num_groups) for weights in (np.ones(len(errors)), errors)])


class GroupedErrors:
    """Running sums of the errors of each group: constant memory over any number of images.

    Args:
        names: Of the groups.

    Attributes:
        sums: ``(2, groups)`` float64: pixels and sum of errors, as :func:`sum_by_group` gives them.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self.names = tuple(names)
        self.sums = np.zeros((2, len(self.names)))

    def add(self, errors: np.ndarray, groups: np.ndarray) -> None:
        """Add the pixels of an image."""
        self.sums += sum_by_group(errors, groups, len(self.names))

    @property
    def counts(self) -> np.ndarray:
        """Pixels in each group, int64."""
        return self.sums[0].astype(np.int64)

    @property
    def means(self) -> np.ndarray:
        """Mean error of each group, float64, NaN for one without a pixel."""
        counts, totals = self.sums
        return np.where(counts > 0, totals / np.maximum(counts, 1), np.nan)
