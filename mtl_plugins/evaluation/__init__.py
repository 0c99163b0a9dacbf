from mtl_plugins.evaluation.metrics import DepthMetric, IoUMetric, MultiTaskMetric

__all__ = ['DepthMetric', 'IoUMetric', 'MultiTaskMetric']
