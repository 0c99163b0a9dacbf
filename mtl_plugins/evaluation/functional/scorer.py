"""What adds up the scores of one label over the images of a split."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

import numpy as np


class Scorer(ABC):
    """Constant memory; one exact sum over threads and processes. Light: no torch.

    Args:
        name: Of the label: the scores are ``metrics_task_<name>/*`` and ``metrics_summary/<name>``.
    """

    empty: str
    """What the data lack where :meth:`is_empty`."""

    rules: Mapping[str, str] = {}
    """``'greater'`` or ``'less'``, whichever is better, by the last word of a score; scores of single classes have none.

    The first is that of the summary.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.prefix = f'metrics_task_{name}'
        self.summary = f'metrics_summary/{name}'

    @property
    def summary_rule(self) -> str | None:
        """Which of two values of the summary is the better: that of the first score with a rule."""
        return next(iter(self.rules.values()), None)

    @abstractmethod
    def measure(self, values: np.ndarray, prediction: np.ndarray) -> Any:
        """What one image contributes: true and predicted values compared. Several threads may call it.

        Raises:
            TypeError: If a type is wrong.
            ValueError: If the shapes differ or a value is out of its range.
        """

    @abstractmethod
    def add(self, measured: Any) -> None:
        """Add the result of :meth:`measure`."""

    @abstractmethod
    def counters(self) -> list[np.ndarray]:
        """The int64 and float64 arrays that hold the state; processes sum them up in place."""

    @abstractmethod
    def scores(self) -> dict[str, float]:
        """The scores under their full names."""

    @abstractmethod
    def is_empty(self) -> bool:
        """Whether no pixel counted so far."""
