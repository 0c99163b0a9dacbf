"""Scores of one label, added up over the images of a split."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, NamedTuple

import numpy as np

from mtl_plugins.errors import ArgumentError

# The id of pixels that count nowhere, in maps of classes and of boundaries.
IGNORE_LABEL = 255


def check_shapes(label: np.ndarray, prediction: np.ndarray) -> None:
    """Raise ArgumentError if the shapes differ."""
    if label.shape != prediction.shape:
        raise ArgumentError(f'`label` and `prediction` should have the same shape. Found {label.shape} and {prediction.shape}.')


class Score(NamedTuple):
    """Description of a score.

    Attributes:
        title: Name in tables.
        unit: Unit, empty for none.
        higher_is_better: Direction, as in torchmetrics.
        function: Of one image's true and predicted values, for scores that :meth:`Scorer.register` added.
    """

    title: str
    unit: str
    higher_is_better: bool
    function: Callable[[np.ndarray, np.ndarray], float] | None = None

    @property
    def rule(self) -> str:
        """The direction as mmengine calls it: ``'greater'`` or ``'less'``."""
        return 'greater' if self.higher_is_better else 'less'


class Scorer(ABC):
    """Counter of scores in constant memory, with one exact sum over threads and processes. Imports no torch.

    Args:
        name: Of the label: the scores are ``metrics_task_<name>/*`` and ``metrics_summary/<name>``.
    """

    empty: str
    """Name of what the data lack if :meth:`is_empty`."""

    listed: ClassVar[dict[str, Score]]
    """Scores by the last word of their names; the first is the summary. Scores without a direction are not listed."""

    def __init_subclass__(cls) -> None:
        if hasattr(cls, 'listed'):
            cls.listed = dict(cls.listed)

    @classmethod
    def register(
        cls, name: str, title: str | None = None, *, unit: str = '', higher_is_better: bool
    ) -> Callable[[Callable[[np.ndarray, np.ndarray], float]], Callable]:
        """Return a decorator that adds a score to every label of this kind.

        The function gets the true and the predicted values of an image, and returns a number, or NaN if nothing counts. The score
        is the mean over the images where it is a number.
        """

        def add(function: Callable[[np.ndarray, np.ndarray], float]) -> Callable:
            if name in cls.listed and cls.listed[name].function is None:
                raise ArgumentError(f'{cls.__name__} has a score {name!r} already. Choose another name.')
            cls.listed[name] = Score(title or name, unit, higher_is_better, function)
            return function

        return add

    def __init__(self, name: str) -> None:
        self.name = name
        self.prefix = f'metrics_task_{name}'
        self.summary = f'metrics_summary/{name}'
        self.added = {word: score.function for word, score in self.listed.items() if score.function}
        # Sums and numbers of images of the added scores.
        self._added_sums = np.zeros((2, len(self.added)))

    @property
    def described(self) -> dict[str, Score]:
        """The listed scores by their full names, the summary included."""
        scores = {f'{self.prefix}/{word}': score for word, score in self.listed.items()}
        scores[self.summary] = next(iter(self.listed.values()))
        return scores

    def measure(self, values: np.ndarray, prediction: np.ndarray) -> tuple[Any, list[float]]:
        """Compare true and predicted values of one image, for :meth:`add`. Several threads may call it.

        Raises:
            TypeError: If a type is wrong.
            ValueError: If the shapes differ or a value is out of its range.
        """
        return self.compare(values, prediction), [float(function(values, prediction)) for function in self.added.values()]

    def add(self, measured: tuple[Any, list[float]]) -> None:
        """Add the result of :meth:`measure`."""
        self.accumulate(measured[0])
        self._added_sums += np.nan_to_num(np.stack([measured[1], ~np.isnan(measured[1])])) if self.added else 0

    def counters(self) -> list[np.ndarray]:
        """Return the int64 and float64 arrays that hold the state; processes sum them up in place."""
        return [*self.state(), *([self._added_sums] if self.added else [])]

    def scores(self) -> dict[str, float]:
        """Return the scores by their full names."""
        results = self.results()
        for word, (total, count) in zip(self.added, self._added_sums.T, strict=True):
            results[word] = total / count if count else np.nan
        scores = {f'{self.prefix}/{word}': float(value) for word, value in results.items()}
        scores[self.summary] = scores[f'{self.prefix}/{next(iter(self.listed))}']
        return scores

    @abstractmethod
    def compare(self, values: np.ndarray, prediction: np.ndarray) -> Any:
        """Return the contribution of one image, of true and predicted values ``(H, W)`` or ``(H, W, C)``."""

    @abstractmethod
    def accumulate(self, compared: Any) -> None:
        """Add a result of :meth:`compare` to the state."""

    @abstractmethod
    def state(self) -> list[np.ndarray]:
        """Return the arrays of :meth:`counters` without those of added scores."""

    @abstractmethod
    def results(self) -> Mapping[str, float]:
        """Return the scores by the last word of their names."""

    @abstractmethod
    def is_empty(self) -> bool:
        """Return True if no pixel has counted so far."""


class ImageMeanScorer(Scorer):
    """Means of the errors of single images, over those that have a valid pixel.

    Without such an image all scores are NaN: 0 would be the best possible error, and NaN is never chosen as the best score.
    """

    empty = 'no valid pixel'
    errors: Callable[[np.ndarray, np.ndarray], np.ndarray | None]
    """Static method: the scores of an image in the order of those listed, or None if it has no valid pixel."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.words = [word for word in self.listed if word not in self.added]
        self.total = np.zeros(len(self.words))
        self.num_images = np.zeros(1, dtype=np.int64)

    def compare(self, values: np.ndarray, prediction: np.ndarray) -> np.ndarray | None:
        return self.errors(values, prediction)

    def accumulate(self, compared: np.ndarray | None) -> None:
        if compared is not None:
            self.total += compared
            self.num_images += 1

    def state(self) -> list[np.ndarray]:
        return [self.total, self.num_images]

    def results(self) -> dict[str, float]:
        mean = self.total / self.num_images if self.num_images.any() else np.full(len(self.words), np.nan)
        return dict(zip(self.words, mean, strict=True))

    def is_empty(self) -> bool:
        return not self.num_images.any()
