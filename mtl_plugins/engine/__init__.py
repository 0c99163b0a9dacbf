from mtl_plugins.engine.balanced_data_parallel import BalancedDataParallel
from mtl_plugins.engine.epoch_train_loop import EpochBasedTrainLoop
from mtl_plugins.engine.hooks import (
    AtomicCheckpointHook,
    CollapseHook,
    DINOScheduleHook,
    EarlyStoppingHook,
    HistogramHook,
    IntervalRuntimeInfoHook,
    MetricsCsvHook,
    PreemptionHook,
    ProgressBarHook,
    RunRecordHook,
    StepSeedHook,
    SubmissionHook,
)
from mtl_plugins.engine.log_processor import SummaryLogProcessor
from mtl_plugins.engine.loops import InferenceTestLoop, InferenceValLoop
from mtl_plugins.engine.optim_wrapper import Bf16OptimWrapper, OptimWrapper
from mtl_plugins.engine.optim_wrapper_constructor import MergedGroupsConstructor
from mtl_plugins.engine.pictures import PictureHook
from mtl_plugins.engine.runner import MultiTaskRunner

__all__ = [
    'AtomicCheckpointHook',
    'BalancedDataParallel',
    'Bf16OptimWrapper',
    'CollapseHook',
    'DINOScheduleHook',
    'EarlyStoppingHook',
    'EpochBasedTrainLoop',
    'HistogramHook',
    'InferenceTestLoop',
    'InferenceValLoop',
    'IntervalRuntimeInfoHook',
    'MergedGroupsConstructor',
    'MetricsCsvHook',
    'MultiTaskRunner',
    'OptimWrapper',
    'PictureHook',
    'PreemptionHook',
    'ProgressBarHook',
    'RunRecordHook',
    'StepSeedHook',
    'SubmissionHook',
    'SummaryLogProcessor',
]
