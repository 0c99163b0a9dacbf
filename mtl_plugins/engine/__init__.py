from mtl_plugins.engine.bf16_optim_wrapper import Bf16OptimWrapper
from mtl_plugins.engine.epoch_train_loop import EpochBasedTrainLoop
from mtl_plugins.engine.hooks import (
    AtomicCheckpointHook,
    CollapseHook,
    DINOScheduleHook,
    EarlyStoppingHook,
    FeatureHook,
    IntervalRuntimeInfoHook,
    MetricsCsvHook,
    PredictionImageHook,
    PreemptionHook,
    ProgressBarHook,
    StepSeedHook,
    SubmissionHook,
)
from mtl_plugins.engine.log_processor import SummaryLogProcessor
from mtl_plugins.engine.loops import InferenceTestLoop, InferenceValLoop
from mtl_plugins.engine.optim_wrapper import OptimWrapper
from mtl_plugins.engine.optim_wrapper_constructor import MergedGroupsConstructor
from mtl_plugins.engine.runner import MultiTaskRunner

__all__ = [
    'AtomicCheckpointHook',
    'Bf16OptimWrapper',
    'CollapseHook',
    'DINOScheduleHook',
    'EarlyStoppingHook',
    'EpochBasedTrainLoop',
    'FeatureHook',
    'InferenceTestLoop',
    'InferenceValLoop',
    'IntervalRuntimeInfoHook',
    'MergedGroupsConstructor',
    'MetricsCsvHook',
    'MultiTaskRunner',
    'OptimWrapper',
    'PredictionImageHook',
    'PreemptionHook',
    'ProgressBarHook',
    'StepSeedHook',
    'SubmissionHook',
    'SummaryLogProcessor',
]
