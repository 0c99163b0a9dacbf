"""Intersection over union of semantic segmentation."""

from collections.abc import Mapping, Sequence

from mtl_plugins.evaluation.metrics.label_metric import LabelMetric
from mtl_plugins.registry import METRICS


@METRICS.register_module()
class IoUMetric(LabelMetric):
    """The scores of the label ``semseg`` alone: IoU per class, its mean and its nan-mean over one confusion matrix of the split.

    Args:
        classes: Class names in the order of the ids; the data set's by default.
    """

    def __init__(self, classes: Sequence[str] | None = None) -> None:
        self.classes = classes
        super().__init__(tasks=['semseg'])

    def override(self, configs: Mapping[str, Mapping]) -> Mapping[str, Mapping]:
        return configs if self.classes is None else dict(semseg=dict(type='ClassMap', classes=self.classes))
