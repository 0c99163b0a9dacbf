from mtl_plugins.evaluation.metrics.depth_metric import DepthMetric
from mtl_plugins.evaluation.metrics.dino_metric import DINOMetric
from mtl_plugins.evaluation.metrics.iou_metric import IoUMetric
from mtl_plugins.evaluation.metrics.multitask_metric import MultiTaskMetric

__all__ = ['DINOMetric', 'DepthMetric', 'IoUMetric', 'MultiTaskMetric']
