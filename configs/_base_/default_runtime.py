default_scope = 'mtl_plugins'
runner_type = 'MultiTaskRunner'

# The name of a run is <prefix><team>_<month day-time>_<name>_<5 hex>; name defaults to the config's.
team_prefix = 'T'
team = 0
name = None
# After training: predict the test split with the best checkpoint and pack the archive.
submission = dict(enabled=True, include_checkpoint=False, rounding='nearest')

default_hooks = dict(
    runtime_info=dict(type='IntervalRuntimeInfoHook'),
    step_seed=dict(type='StepSeedHook'),
    timer=dict(type='IterTimerHook'),
    sampler_seed=dict(type='DistSamplerSeedHook'),
    logger=dict(type='LoggerHook', interval=50, log_metric_by_epoch=False),
    param_scheduler=dict(type='ParamSchedulerHook'),
    checkpoint=dict(type='AtomicCheckpointHook', interval=1, max_keep_ckpts=2, save_best='metrics_summary/multitask'),
    sync_buffers=dict(type='SyncBuffersHook'),
    preemption=dict(type='PreemptionHook', interval=10),
    metrics_csv=dict(type='MetricsCsvHook'),
    run_record=dict(type='RunRecordHook'),
    label_summary=dict(type='LabelSummaryHook'),
    progress_bar=dict(type='ProgressBarHook'),
    histograms=dict(type='HistogramHook', interval=500),
    pictures=dict(
        type='PictureHook',
        predictions=dict(type='ValidationImages', num_images=4),
        training=dict(type='TrainingCrops', interval=500),
        first_batch=dict(type='FirstBatch', num_images=8),
        observed=dict(type='ObservedSamples', samples=(0, 100)),
        confusion=dict(type='ConfusionMatrices'),
    ),
)
custom_hooks = []

# The views of `mtl test --tta`. By default, probabilities and log depths are averaged; to merge them in another way, set for
# example `merge=dict(semseg='max', depth='metres')`.
tta_model = dict(type='MultiTaskTTAModel', scales=(0.75, 1.0, 1.25), flip=True, scale_compensation=False)

env_cfg = dict(
    cudnn_benchmark=True,
    tf32=True,
    mp_cfg=dict(mp_start_method='fork', opencv_num_threads=0),
    dist_cfg=dict(backend='nccl', timeout=1800),
)
randomness = dict(seed=0, deterministic=False)

log_level = 'INFO'
log_processor = dict(type='SummaryLogProcessor', window_size=1, by_epoch=True)
# No `visualizer`: local files are the runner's default, so a config can add `visualization/*.py` as a base.

load_from = None
resume = False
# If True, a resumed run takes schedule and optimizer settings from the config where they differ from the checkpoint's.
reschedule = False
