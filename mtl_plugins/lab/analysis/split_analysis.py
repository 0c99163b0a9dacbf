"""Scores of a model on the images of a split, and its errors by distance, by class and by place in the image."""

from collections.abc import Mapping, Sequence

import numpy as np

from mtl_plugins.evaluation.functional.confusion_matrix import ConfusionScorer
from mtl_plugins.evaluation.scores import TASK_SUMMARIES, multitask_scores, rule_of, rules_of, scores_of
from mtl_plugins.lab.analysis.pixel_errors import errors_of
from mtl_plugins.labels.label_kind import LabelKind

# Rows and columns into which images of any size are divided.
PLACES = (12, 24)
PLACE = 'place'


class ErrorTable:
    """Running sums of one of the errors of a label, see :class:`PixelErrors`, in the groups of a label ``by`` or by place."""

    def __init__(self, label: str, error: str, by: str, names: Sequence[str]) -> None:
        self.label, self.error, self.by, self.names = label, error, by, tuple(names)
        # Number of pixels, and sum of their errors, of each group.
        self._sums = np.zeros((2, len(self.names)))

    def add(self, errors: np.ndarray, groups: np.ndarray) -> None:
        """Add the pixels of an image; NaN and what belongs to no group ``0..N-1`` do not count."""
        number = len(self.names)
        counted = ~np.isnan(errors) & (groups >= 0) & (groups < number)
        groups, errors = groups[counted].astype(np.int64), errors[counted].astype(np.float64)
        self._sums += [np.bincount(groups, weights, number) for weights in (np.ones(len(errors)), errors)]

    @property
    def counts(self) -> np.ndarray:
        """Pixels in each group, int64."""
        return self._sums[0].astype(np.int64)

    @property
    def means(self) -> np.ndarray:
        """Mean error of each group, float64, NaN for one without a pixel."""
        counts, totals = self._sums
        return np.where(counts > 0, totals / np.maximum(counts, 1), np.nan)

    def describe(self) -> dict:
        """As plain numbers; None is the mean of a group without a pixel."""
        means = [None if np.isnan(mean) else float(mean) for mean in self.means]
        about = dict(label=self.label, error=self.error, by=self.by)
        return dict(about, groups=list(self.names), pixels=self.counts.tolist(), means=means)


class SplitAnalysis:
    """Adds up images one by one in constant memory.

    ``labels`` are the kinds of the data by name, of which those with a :attr:`PixelErrors.group_title` group errors;
    ``predicted`` the names of those that the model predicts. ``tables`` has an :class:`ErrorTable` for each error of each label
    and each grouping.
    """

    def __init__(self, labels: Mapping[str, LabelKind], predicted: Sequence[str]) -> None:
        self.labels = dict(labels)
        self.predicted = [name for name in labels if name in predicted]
        self.scorers = {name: labels[name].scorer() for name in self.predicted}
        self.errors = {name: errors_of(kind) for name, kind in labels.items()}
        names = {name: errors.group_names() for name, errors in self.errors.items() if errors.group_title is not None}
        names[PLACE] = [f'row {row}, column {column}' for row in range(PLACES[0]) for column in range(PLACES[1])]
        self.tables = [
            ErrorTable(label, error, by, groups)
            for label in self.predicted
            for error in self.errors[label].names
            for by, groups in names.items()
        ]

    def add(self, values: Mapping[str, np.ndarray], predictions: Mapping[str, np.ndarray]) -> dict[str, float]:
        """Add an image: true values by label, where it has them, and predictions.

        Returns:
            What ranks the image: its own scores, as validation names them, and ``error/<label>``, the mean of the first of the
            label's pixel errors. NaN where nothing counts.
        """
        own: dict[str, float] = {}
        groups = {name: self.errors[name].groups(values[name]) for name in values if self.errors[name].group_title is not None}
        for name in self.predicted:
            if name not in values:
                continue
            kind, prediction = self.labels[name], predictions[name]
            alone, measured = kind.scorer(), self.scorers[name].measure(values[name], prediction)
            alone.add(measured)
            self.scorers[name].add(measured)
            own |= scores_of([alone])
            errors = self.errors[name].measure(values[name], prediction)
            rows, columns = (np.arange(side) * cells // side for side, cells in zip(values[name].shape[:2], PLACES, strict=True))
            groups[PLACE] = rows[:, None] * PLACES[1] + columns[None, :]
            for table in self.tables:
                if table.label == name and table.by in groups:
                    table.add(errors[table.error], groups[table.by])
            if errors:
                first = errors[self.errors[name].names[0]]
                counted = ~np.isnan(first)
                own[f'error/{name}'] = float(first[counted].mean()) if counted.any() else float('nan')
        return own | _in_common(own)

    def scores(self) -> dict[str, float]:
        """The scores of validation over all images so far; those of a label that no image had are NaN."""
        scores = scores_of(self.scorers.values())
        return scores | _in_common(scores)

    def rule_of(self, score: str) -> str | None:
        """``'greater'`` or ``'less'``, whichever of two values of a score is the better; None if neither is."""
        if score.startswith('error/'):
            return 'less'
        return rules_of(self.scorers.values()).get(score) or rule_of(score)

    def confusions(self) -> dict[str, np.ndarray]:
        """The confusion matrix of each class map by its name, rows are labels, columns predictions."""
        return {name: scorer.confusion for name, scorer in self.scorers.items() if isinstance(scorer, ConfusionScorer)}

    def tables_by(self, by: str) -> list[ErrorTable]:
        """The tables of one grouping."""
        return [table for table in self.tables if table.by == by]


def confusions_by_label(splits: Mapping[str, SplitAnalysis]) -> dict[str, dict[str, np.ndarray]]:
    """The confusion matrices of several models, by class map and name of the model."""
    matrices: dict[str, dict[str, np.ndarray]] = {}
    for model, split in splits.items():
        for label, matrix in split.confusions().items():
            matrices.setdefault(label, {})[model] = matrix
    return matrices


def _in_common(scores: Mapping[str, float]) -> dict[str, float]:
    """The multitask scores, where both of their tasks are scored."""
    return multitask_scores(scores) if scores.keys() >= set(TASK_SUMMARIES) else {}


def choose_best_median_worst(values: np.ndarray, count: int, lower_is_better: bool) -> dict[str, np.ndarray]:
    """Positions of the ``best``, ``median`` and ``worst`` of some values, NaN left out; each position occurs once.

    The best come best first, the worst worst first, the median in the order of rank, in the middle of all. With less than ``3
    count`` values there are fewer of each.
    """
    order = np.argsort(values if lower_is_better else -values, kind='stable')
    order = order[~np.isnan(values[order])]
    count = min(count, -(-len(order) // 3))
    best, worst = order[:count], order[::-1][: min(count, len(order) - count)]
    rest = order[len(best) : len(order) - len(worst)]
    start = (len(rest) - min(count, len(rest))) // 2
    return dict(best=best, median=rest[start : start + count], worst=worst)
