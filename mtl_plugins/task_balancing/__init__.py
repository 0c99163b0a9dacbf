from mtl_plugins.task_balancing.aggregated_gradients import AggregatedGradients
from mtl_plugins.task_balancing.gradient_balancing import GradNorm
from mtl_plugins.task_balancing.loss_balancing import (
    BoundedUncertaintyWeights,
    DynamicTaskPriority,
    DynamicWeightAverage,
    FixedWeights,
    GeometricMean,
    IMTLLossWeights,
    LogLosses,
    RandomWeights,
    ScheduledWeights,
    UncertaintyWeights,
)
