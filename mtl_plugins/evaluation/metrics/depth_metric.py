"""Depth errors."""

from mtl_plugins.evaluation.metrics.label_metric import LabelMetric
from mtl_plugins.registry import METRICS


@METRICS.register_module()
class DepthMetric(LabelMetric):
    """The scores of the label ``depth`` alone: errors per image, averaged over the images that have a valid pixel."""

    def __init__(self) -> None:
        super().__init__(tasks=['depth'])
