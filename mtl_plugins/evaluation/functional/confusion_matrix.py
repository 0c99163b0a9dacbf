"""Intersection over union from one confusion matrix, accumulated in place over any number of images."""

from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from mtl_plugins.errors import ArgumentError
from mtl_plugins.evaluation.functional.scorer import IGNORE_LABEL, Score, Scorer, check_shapes

_NUM_VALUES = 256
_EPSILON = 1e-12


def update_confusion_matrix(confusion: np.ndarray, label: np.ndarray, prediction: np.ndarray) -> None:
    """Add the pixels of one image (or batch) to ``confusion``, in place. Pixels with label 255 are left out.

    Args:
        confusion: ``(C, C)`` int64, rows are labels, columns predictions.
        label: Class ids ``0..C-1`` or 255, ``uint8``, any shape.
        prediction: Class ids ``0..C-1``, ``uint8``, same shape, at ignored pixels too.

    Raises:
        TypeError: If a map is not ``uint8``.
        ArgumentError: If the shapes differ or a map holds a value that is no class.
    """
    for name, values in (('label', label), ('prediction', prediction)):
        if values.dtype != np.uint8:
            raise TypeError(f'`{name}` should be uint8. Found {values.dtype}.')
    check_shapes(label, prediction)
    # Counting all 256 x 256 pairs and cutting afterwards costs less than masking pixels first, and checks every value.
    pair = label.astype(np.uint16).ravel()
    pair <<= 8
    pair |= prediction.ravel()
    counts = np.bincount(pair, minlength=_NUM_VALUES**2).reshape(_NUM_VALUES, _NUM_VALUES)

    num_classes = len(confusion)
    if counts[:, num_classes:].any():
        found = num_classes + np.flatnonzero(counts[:, num_classes:].any(axis=0))[0]
        raise ArgumentError(f'`prediction` should hold classes 0..{num_classes - 1}. Found {found}.')
    if counts[num_classes:IGNORE_LABEL].any():
        found = num_classes + np.flatnonzero(counts[num_classes:IGNORE_LABEL].any(axis=1))[0]
        raise ArgumentError(f'`label` should hold classes 0..{num_classes - 1} or {IGNORE_LABEL}. Found {found}.')
    confusion += counts[:num_classes, :num_classes]


def class_iou(confusion: np.ndarray) -> np.ndarray:
    """Return ``100 * TP / max(TP + FP + FN, 1e-12)`` of each class, ``(C,)`` float64, 0 for one that occurs nowhere."""
    true_positive = np.diag(confusion).astype(np.float64)
    return 100 * true_positive / np.maximum(_union(confusion), _EPSILON)


def _union(confusion: np.ndarray) -> np.ndarray:
    return (confusion.sum(axis=0) + confusion.sum(axis=1) - np.diag(confusion)).astype(np.float64)


class ConfusionScorer(Scorer):
    """IoU of each class by its name, mean IoU, which is the summary, and accuracies (arXiv 1411.4038).

    ``nan_mean_iou`` is over the classes found in labels or predictions, ``mean_accuracy`` over those that are labelled; in
    ``fw_iou`` the IoU of each class weighs as its share of the labelled pixels. Without a labelled pixel these are NaN.
    Values are class ids, uint8; 255 in the label is left out.
    """

    empty = 'no pixel of any class'
    listed: ClassVar = dict(
        mean_iou=Score('mIoU', '%', True),
        nan_mean_iou=Score('mIoU of classes that occur', '%', True),
        pixel_accuracy=Score('pixel accuracy', '%', True),
        mean_accuracy=Score('mean accuracy', '%', True),
        fw_iou=Score('frequency-weighted IoU', '%', True),
    )

    def __init__(self, name: str, classes: Sequence[str]) -> None:
        super().__init__(name)
        self.classes = tuple(classes)
        self.confusion = np.zeros((len(classes), len(classes)), np.int64)

    def compare(self, values: np.ndarray, prediction: np.ndarray) -> np.ndarray:
        confusion = np.zeros_like(self.confusion)
        update_confusion_matrix(confusion, values, prediction)
        return confusion

    def accumulate(self, compared: np.ndarray) -> None:
        self.confusion += compared

    def state(self) -> list[np.ndarray]:
        return [self.confusion]

    def results(self) -> dict[str, float]:
        iou, labelled, right = class_iou(self.confusion), self.confusion.sum(axis=1), np.diag(self.confusion)
        scores = dict(zip(self.classes, iou, strict=True)) | dict(mean_iou=iou.mean())
        if not labelled.any():
            return scores | dict.fromkeys(('nan_mean_iou', 'pixel_accuracy', 'mean_accuracy', 'fw_iou'), np.nan)
        known = labelled > 0
        return scores | dict(
            nan_mean_iou=iou[_union(self.confusion) > 0].mean(),
            pixel_accuracy=100 * float(right.sum() / labelled.sum()),
            mean_accuracy=100 * float((right[known] / labelled[known]).mean()),
            fw_iou=float(iou @ labelled / labelled.sum()),
        )

    def is_empty(self) -> bool:
        return not self.confusion.any()
