from mtl_plugins.engine.hooks.checkpoint_hook import AtomicCheckpointHook, EarlyStoppingHook
from mtl_plugins.engine.hooks.dino_hooks import CollapseHook, DINOScheduleHook
from mtl_plugins.engine.hooks.preemption_hook import PreemptionHook
from mtl_plugins.engine.hooks.run_record_hook import MetricsCsvHook, RunRecordHook
from mtl_plugins.engine.hooks.runtime_info_hook import IntervalRuntimeInfoHook, StepSeedHook
from mtl_plugins.engine.hooks.training_scores_hook import TrainingScoresHook
