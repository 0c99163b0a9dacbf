"""Names and composition of all scores: the same for validation, grader, logs, JSON and CSV."""

import math
from collections.abc import Mapping, Sequence

import numpy as np

from mtl_plugins.evaluation.functional.confusion_matrix import class_iou, mean_iou, nan_mean_iou
from mtl_plugins.evaluation.functional.depth_errors import DEPTH_METRICS, DepthErrorSum

SEMSEG_PREFIX = 'metrics_task_semseg'
DEPTH_PREFIX = 'metrics_task_depth'
SUMMARY_SEMSEG = 'metrics_summary/semseg'
SUMMARY_DEPTH = 'metrics_summary/depth'
SUMMARY_MULTITASK = 'metrics_summary/multitask'

_MEAN_IOU_OFFSET = 50.0
_SI_LOG_RMSE_OFFSET = 50.0


def semseg_scores(confusion: np.ndarray, classes: Sequence[str]) -> dict[str, float]:
    """``metrics_task_semseg/<class name>``, ``.../mean_iou``, ``.../nan_mean_iou`` and ``metrics_summary/semseg`` (= mean_iou).

    Args:
        confusion: ``(C, C)`` counts, rows are labels.
        classes: The C class names.
    """
    scores = {f'{SEMSEG_PREFIX}/{name}': float(iou) for name, iou in zip(classes, class_iou(confusion), strict=True)}
    scores[f'{SEMSEG_PREFIX}/mean_iou'] = mean_iou(confusion)
    scores[f'{SEMSEG_PREFIX}/nan_mean_iou'] = nan_mean_iou(confusion)
    scores[SUMMARY_SEMSEG] = scores[f'{SEMSEG_PREFIX}/mean_iou']
    return scores


def depth_scores(errors: DepthErrorSum) -> dict[str, float]:
    """``metrics_task_depth/<metric>`` and ``metrics_summary/depth`` (= si_log_rmse): means over images with a valid pixel.

    All are NaN if no image had one: 0 would be the best possible error, and NaN is never chosen as the best score.
    """
    mean = errors.total / errors.num_images if errors.num_images.any() else np.full(len(DEPTH_METRICS), np.nan)
    scores = {f'{DEPTH_PREFIX}/{name}': float(value) for name, value in zip(DEPTH_METRICS, mean, strict=True)}
    scores[SUMMARY_DEPTH] = scores[f'{DEPTH_PREFIX}/si_log_rmse']
    return scores


def multitask_score(scores: Mapping[str, float]) -> float:
    """``max(mean_iou - 50, 0) + max(50 - si_log_rmse, 0)``; 0 if one of the two tasks is absent, NaN if one is NaN."""
    if SUMMARY_SEMSEG not in scores or SUMMARY_DEPTH not in scores:
        return 0.0
    gains = (scores[SUMMARY_SEMSEG] - _MEAN_IOU_OFFSET, _SI_LOG_RMSE_OFFSET - scores[SUMMARY_DEPTH])
    return math.nan if any(map(math.isnan, gains)) else sum(max(gain, 0.0) for gain in gains)
