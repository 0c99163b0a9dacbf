"""The score that the tasks of MiniScapes have in common."""

import math
from collections.abc import Mapping

from mtl_plugins.utils.score_names import (
    SUMMARY_DEPTH,
    SUMMARY_MULTITASK,
    SUMMARY_SEMSEG,
    SUMMARY_UNCLIPPED,
    TASK_SUMMARIES,
)

_MEAN_IOU_OFFSET = 50.0
_SI_LOG_RMSE_OFFSET = 50.0


def multitask_scores(scores: Mapping[str, float]) -> dict[str, float]:
    """``metrics_summary/multitask`` and, where both tasks are scored, ``metrics_summary/multitask_unclipped``.

    The former is ``max(mean_iou - 50, 0) + max(50 - si_log_rmse, 0)``, 0 if one of the two tasks is absent, NaN if one is NaN;
    the latter is the same sum without the two maxima.
    """
    if not scores.keys() >= set(TASK_SUMMARIES):
        return {SUMMARY_MULTITASK: 0.0}
    gains = (scores[SUMMARY_SEMSEG] - _MEAN_IOU_OFFSET, _SI_LOG_RMSE_OFFSET - scores[SUMMARY_DEPTH])
    multitask = math.nan if any(map(math.isnan, gains)) else sum(max(gain, 0.0) for gain in gains)
    return {SUMMARY_MULTITASK: multitask, SUMMARY_UNCLIPPED: sum(gains)}


def with_ties_broken(scores: Mapping[str, float]) -> dict[str, float]:
    """The scores by which checkpoints are chosen: while the multitask score is 0, its place is taken by the unclipped sum.

    A score of 0 says that both tasks are below their thresholds, so that the sum is not positive: the order of all other scores
    is kept, and of those that are 0 the larger sum is better.
    """
    multitask = scores.get(SUMMARY_MULTITASK)
    if multitask == 0 and SUMMARY_UNCLIPPED in scores:
        return {**scores, SUMMARY_MULTITASK: scores[SUMMARY_UNCLIPPED]}
    return dict(scores)
