"""All labels and their common score."""

from mtl_plugins.evaluation.functional.scores import multitask_scores
from mtl_plugins.evaluation.metrics.label_metric import LabelMetric
from mtl_plugins.registry import METRICS


@METRICS.register_module()
class MultiTaskMetric(LabelMetric):
    """:class:`LabelMetric` with the common scores of :func:`multitask_scores`.

    ``metrics_summary/multitask`` (0 for a single task) can drive ``save_best``.
    """

    def scores(self) -> dict[str, float]:
        scores = super().scores()
        return scores | multitask_scores(scores)
