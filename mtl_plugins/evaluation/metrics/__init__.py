from mtl_plugins.evaluation.metrics.dino_metric import DINOMetric
from mtl_plugins.evaluation.metrics.label_metric import DepthMetric, IoUMetric, MultiTaskMetric

__all__ = ['DINOMetric', 'DepthMetric', 'IoUMetric', 'MultiTaskMetric']
