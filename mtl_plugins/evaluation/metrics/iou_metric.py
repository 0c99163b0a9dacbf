"""Intersection over union of semantic segmentation."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mtl_plugins.evaluation.functional.confusion_matrix import new_confusion_matrix, update_confusion_matrix
from mtl_plugins.evaluation.functional.scores import SEMSEG_PREFIX, semseg_scores
from mtl_plugins.evaluation.metrics.streaming_metric import StreamingMetric, get_map
from mtl_plugins.labels.cityscapes_classes import CLASSES
from mtl_plugins.registry import METRICS


@METRICS.register_module()
class IoUMetric(StreamingMetric):
    """IoU per class, its mean and its nan-mean over one confusion matrix of the split.

    Reads ``pred_sem_seg`` and ``gt_sem_seg``, both uint8; pixels with label 255 are left out. Scores: see
    :func:`~mtl_plugins.evaluation.functional.scores.semseg_scores`.

    Args:
        classes: Class names in the order of the ids.
    """

    default_prefix = SEMSEG_PREFIX

    def __init__(self, classes: Sequence[str] = CLASSES) -> None:
        self.classes = tuple(classes)
        super().__init__()

    def reset(self) -> None:
        self.confusion = new_confusion_matrix(len(self.classes))

    def update(self, sample: Mapping[str, Any]) -> None:
        update_confusion_matrix(self.confusion, get_map(sample, 'gt_sem_seg'), get_map(sample, 'pred_sem_seg'))

    def counters(self) -> list[np.ndarray]:
        return [self.confusion]

    def scores(self) -> dict[str, float]:
        return semseg_scores(self.confusion, self.classes)
