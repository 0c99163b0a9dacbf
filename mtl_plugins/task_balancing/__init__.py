from mtl_plugins.task_balancing.aggregated_gradients import AggregatedGradients
from mtl_plugins.task_balancing.bounded_uncertainty_weights import BoundedUncertaintyWeights
from mtl_plugins.task_balancing.dynamic_task_priority import DynamicTaskPriority
from mtl_plugins.task_balancing.dynamic_weight_average import DynamicWeightAverage
from mtl_plugins.task_balancing.fixed_weights import FixedWeights
from mtl_plugins.task_balancing.geometric_mean import GeometricMean
from mtl_plugins.task_balancing.grad_norm import GradNorm
from mtl_plugins.task_balancing.imtl_loss_weights import IMTLLossWeights
from mtl_plugins.task_balancing.log_losses import LogLosses
from mtl_plugins.task_balancing.random_weights import RandomWeights
from mtl_plugins.task_balancing.scheduled_weights import ScheduledWeights
from mtl_plugins.task_balancing.uncertainty_weights import UncertaintyWeights

__all__ = [
    'AggregatedGradients',
    'BoundedUncertaintyWeights',
    'DynamicTaskPriority',
    'DynamicWeightAverage',
    'FixedWeights',
    'GeometricMean',
    'GradNorm',
    'IMTLLossWeights',
    'LogLosses',
    'RandomWeights',
    'ScheduledWeights',
    'UncertaintyWeights',
]
