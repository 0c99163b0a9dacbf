"""All labels and their common score."""

from mtl_plugins.evaluation.functional.scores import multitask_scores
from mtl_plugins.evaluation.metrics.label_metric import LabelMetric
from mtl_plugins.registry import METRICS
from mtl_plugins.utils.score_names import SUMMARY_MULTITASK, SUMMARY_RULES, SUMMARY_UNCLIPPED, TASK_SUMMARIES


@METRICS.register_module()
class MultiTaskMetric(LabelMetric):
    """:class:`LabelMetric` with the common scores of :func:`multitask_scores`.

    ``metrics_summary/multitask`` is 0 for a single task, and then cannot drive ``save_best``.
    """

    def score_rules(self) -> dict[str, str | None]:
        rules = super().score_rules()
        if rules.keys() >= set(TASK_SUMMARIES):
            rules |= {name: SUMMARY_RULES[name] for name in (SUMMARY_MULTITASK, SUMMARY_UNCLIPPED)}
        return rules

    def scores(self) -> dict[str, float]:
        scores = super().scores()
        return scores | multitask_scores(scores)
