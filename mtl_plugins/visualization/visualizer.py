"""The hub of the log back ends."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from mmengine.dist import master_only
from mmengine.visualization import Visualizer as MMEngineVisualizer

from mtl_plugins.registry import VISUALIZERS

NUM_CELLS = 64


@dataclass(frozen=True)
class Histogram:
    """How many values lie in each of K cells of equal width.

    Attributes:
        low: Where the first cell begins.
        high: Where the last cell ends.
        counts: ``(K,)`` int64.
        total: Sum of the values.
        total_squares: Sum of their squares.
    """

    low: float
    high: float
    counts: np.ndarray
    total: float
    total_squares: float

    @classmethod
    def of(cls, values: np.ndarray, num_cells: int = NUM_CELLS) -> 'Histogram | None':
        """That of numbers of any shape, from the least to the largest; what is not finite is left out. None without any."""
        values = np.asarray(values, np.float64).ravel()
        values = values[np.isfinite(values)]
        if not len(values):
            return None
        low, high = float(values.min()), float(values.max())
        if low == high:
            # A cell has a width.
            margin = max(abs(low), 1.0) * 1e-3
            low, high = low - margin, high + margin
        counts, _ = np.histogram(values, num_cells, (low, high))
        return cls(low, high, counts, float(values.sum()), float(np.square(values).sum()))

    @property
    def edges(self) -> np.ndarray:
        """Ends of the cells, ``(K + 1,)``."""
        return np.linspace(self.low, self.high, len(self.counts) + 1)


@VISUALIZERS.register_module()
class Visualizer(MMEngineVisualizer):
    """mmengine's, which hands histograms, too, to every back end that takes them. Same arguments."""

    @master_only
    def add_histograms(self, histograms: Mapping[str, Histogram], step: int = 0) -> None:
        """Record distributions by name at an iteration."""
        for backend in self._vis_backends.values():
            if hasattr(backend, 'add_histograms'):
                backend.add_histograms(histograms, step)

    @master_only
    def start(self) -> None:
        """Begin to record now rather than with the first value; called when it is known which run this is."""
        for backend in self._vis_backends.values():
            if hasattr(backend, 'start'):
                backend.start()
