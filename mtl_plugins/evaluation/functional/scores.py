"""The score that the tasks of MiniScapes have in common."""

import math
from collections.abc import Mapping

SUMMARY_SEMSEG = 'metrics_summary/semseg'
SUMMARY_DEPTH = 'metrics_summary/depth'
SUMMARY_MULTITASK = 'metrics_summary/multitask'

_MEAN_IOU_OFFSET = 50.0
_SI_LOG_RMSE_OFFSET = 50.0


def multitask_score(scores: Mapping[str, float]) -> float:
    """``max(mean_iou - 50, 0) + max(50 - si_log_rmse, 0)``; 0 if one of the two tasks is absent, NaN if one is NaN."""
    if SUMMARY_SEMSEG not in scores or SUMMARY_DEPTH not in scores:
        return 0.0
    gains = (scores[SUMMARY_SEMSEG] - _MEAN_IOU_OFFSET, _SI_LOG_RMSE_OFFSET - scores[SUMMARY_DEPTH])
    return math.nan if any(map(math.isnan, gains)) else sum(max(gain, 0.0) for gain in gains)
