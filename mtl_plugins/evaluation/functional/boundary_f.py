"""F-measure of boundaries at the best threshold of the data set, with a tolerance in pixels (ODS, as in arXiv 1505.00996).

At a threshold ``t`` a pixel is predicted where its probability is at least ``t``. Over all images,

* precision is the share of predicted pixels that have a labelled boundary within the tolerance,
* recall the share of labelled boundary pixels that have a predicted one within the tolerance,
* ``F = 2 P R / (P + R)``, 0 where both are.

Distances are Euclidean. Ignored pixels (255) are neither predicted nor labelled. Matches are not one-to-one and predictions are
not thinned: thick predictions cost precision only beyond the tolerance.
"""

from typing import ClassVar

import cv2
import numpy as np

from mtl_plugins.errors import ArgumentError
from mtl_plugins.evaluation.functional.scorer import IGNORE_LABEL, Score, Scorer

NUM_THRESHOLDS = 99
THRESHOLDS = np.arange(1, NUM_THRESHOLDS + 1) / (NUM_THRESHOLDS + 1)


def image_boundary_counts(label: np.ndarray, prediction: np.ndarray, tolerance: int) -> np.ndarray:
    """Return ``(4, 99)`` int64, counts of one image at each of ``THRESHOLDS``.

    In this order: predicted pixels, those near a label, labelled pixels, those near a prediction. A labelled pixel is near a
    prediction at every threshold up to the largest probability within the tolerance.

    Args:
        label: ``(H, W)`` uint8: 1 on a boundary, 0 elsewhere, 255 = ignored.
        prediction: Probabilities ``(H, W)``, floating point.
        tolerance: Distance in pixels, >= 0.

    Raises:
        TypeError: If the label is not uint8.
        ArgumentError: If the shapes differ or a value is out of its range.
    """
    if label.dtype != np.uint8:
        raise TypeError(f'`label` should be uint8. Found {label.dtype}.')
    if label.shape != prediction.shape or label.ndim != 2:
        raise ArgumentError(f'`label` and `prediction` should have one shape (H, W). Found {label.shape} and {prediction.shape}.')
    if not (prediction.min() >= 0 and prediction.max() <= 1):
        raise ArgumentError(f'`prediction` should be probabilities. Found {prediction.min()}..{prediction.max()}.')
    valid = label != IGNORE_LABEL
    boundary = label == 1
    # How many thresholds a pixel passes: 0..99.
    passed = np.searchsorted(THRESHOLDS, prediction.astype(np.float64).ravel(), side='right').astype(np.uint8)
    passed = passed.reshape(label.shape) * valid
    near_label = cv2.dilate(boundary.astype(np.uint8), _disc(tolerance)) > 0
    most_passed = cv2.dilate(passed, _disc(tolerance))
    selections = (passed[valid], passed[valid & near_label], np.full(boundary.sum(), NUM_THRESHOLDS), most_passed[boundary])
    return np.stack([_at_least(selected) for selected in selections])


def _disc(radius: int) -> np.ndarray:
    y, x = np.mgrid[-radius : radius + 1, -radius : radius + 1]
    return (x * x + y * y <= radius * radius).astype(np.uint8)


def _at_least(passed: np.ndarray) -> np.ndarray:
    """Return how many pixels pass each threshold."""
    counts = np.bincount(passed, minlength=NUM_THRESHOLDS + 1)
    return counts[::-1].cumsum()[::-1][1:].astype(np.int64)


class BoundaryScorer(Scorer):
    """Per cent: ``f_best``, ``precision_best``, ``recall_best`` at the best threshold, ``f_0.5`` at 0.5; and ``threshold_best``.

    Names start with ``<prefix>/``; the summary is ``f_best``. Of equal thresholds the lowest counts.
    """

    empty = 'no boundary'
    listed: ClassVar = {'f_best': Score('boundary F', '%', True), 'f_0.5': Score('boundary F at 0.5', '%', True)}

    def __init__(self, name: str, tolerance: int) -> None:
        super().__init__(name)
        self.tolerance = tolerance
        self.counts = np.zeros((4, NUM_THRESHOLDS), np.int64)

    def compare(self, values: np.ndarray, prediction: np.ndarray) -> np.ndarray:
        return image_boundary_counts(values, prediction, self.tolerance)

    def accumulate(self, compared: np.ndarray) -> None:
        self.counts += compared

    def state(self) -> list[np.ndarray]:
        return [self.counts]

    def results(self) -> dict[str, float]:
        predicted, right, labelled, found = self.counts.astype(np.float64)
        precision, recall = right / np.maximum(predicted, 1), found / np.maximum(labelled, 1)
        f = 2 * precision * recall / np.maximum(precision + recall, 1e-12)
        best = int(f.argmax())
        return {
            'f_best': 100 * f[best],
            'precision_best': 100 * precision[best],
            'recall_best': 100 * recall[best],
            'threshold_best': THRESHOLDS[best],
            'f_0.5': 100 * f[NUM_THRESHOLDS // 2],
        }

    def is_empty(self) -> bool:
        return not self.counts[2].any()
