"""Both tasks and their common score."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mtl_plugins.evaluation.functional.scores import SUMMARY_MULTITASK, multitask_score
from mtl_plugins.evaluation.metrics.depth_metric import DepthMetric
from mtl_plugins.evaluation.metrics.iou_metric import IoUMetric
from mtl_plugins.evaluation.metrics.streaming_metric import StreamingMetric
from mtl_plugins.registry import METRICS

_TASK_METRICS = dict(semseg=IoUMetric, depth=DepthMetric)


@METRICS.register_module()
class MultiTaskMetric(StreamingMetric):
    """The scores of each task and ``metrics_summary/multitask`` (0 for a single task), which can drive ``save_best``.

    Args:
        tasks: ``'semseg'``, ``'depth'`` or both.

    Raises:
        ValueError: If ``tasks`` is empty or holds something else.
    """

    default_prefix = 'metrics_summary'

    def __init__(self, tasks: Sequence[str] = ('semseg', 'depth')) -> None:
        if not tasks or set(tasks) - set(_TASK_METRICS):
            raise ValueError(f'`tasks` should hold {" and/or ".join(_TASK_METRICS)}. Found {tasks!r}.')
        self.metrics = [metric() for task, metric in _TASK_METRICS.items() if task in tasks]
        super().__init__()

    def reset(self) -> None:
        for metric in self.metrics:
            metric.reset()

    def update(self, sample: Mapping[str, Any]) -> None:
        for metric in self.metrics:
            metric.update(sample)

    def counters(self) -> list[np.ndarray]:
        return [array for metric in self.metrics for array in metric.counters()]

    def scores(self) -> dict[str, float]:
        scores = {name: score for metric in self.metrics for name, score in metric.scores().items()}
        return scores | {SUMMARY_MULTITASK: multitask_score(scores)}
