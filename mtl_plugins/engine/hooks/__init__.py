from mtl_plugins.engine.hooks.attention_image_hook import AttentionImageHook
from mtl_plugins.engine.hooks.checkpoint_hook import AtomicCheckpointHook
from mtl_plugins.engine.hooks.collapse_hook import CollapseHook
from mtl_plugins.engine.hooks.dino_schedule_hook import DINOScheduleHook
from mtl_plugins.engine.hooks.early_stopping_hook import EarlyStoppingHook
from mtl_plugins.engine.hooks.feature_hook import FeatureHook
from mtl_plugins.engine.hooks.metrics_csv_hook import MetricsCsvHook
from mtl_plugins.engine.hooks.prediction_image_hook import PredictionImageHook
from mtl_plugins.engine.hooks.preemption_hook import PreemptionHook
from mtl_plugins.engine.hooks.progress_bar_hook import ProgressBarHook
from mtl_plugins.engine.hooks.runtime_info_hook import IntervalRuntimeInfoHook
from mtl_plugins.engine.hooks.step_seed_hook import StepSeedHook
from mtl_plugins.engine.hooks.submission_hook import SubmissionHook

__all__ = [
    'AtomicCheckpointHook',
    'AttentionImageHook',
    'CollapseHook',
    'DINOScheduleHook',
    'EarlyStoppingHook',
    'FeatureHook',
    'IntervalRuntimeInfoHook',
    'MetricsCsvHook',
    'PredictionImageHook',
    'PreemptionHook',
    'ProgressBarHook',
    'StepSeedHook',
    'SubmissionHook',
]
