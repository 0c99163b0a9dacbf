# The default runtime without predictions and submissions, with schedules of DINO, a warning of collapse, and k-NN accuracy, t-SNE
# and nearest neighbours of the features at each validation.
_base_ = ['default_runtime.py']
custom_imports = dict(imports=['mtl_plugins.lab.features.feature_hook'])
submission = dict(enabled=False)
default_hooks = dict(
    _delete_=True,
    runtime_info=dict(type='IntervalRuntimeInfoHook'),
    step_seed=dict(type='StepSeedHook'),
    timer=dict(type='IterTimerHook'),
    sampler_seed=dict(type='DistSamplerSeedHook'),
    logger=dict(type='LoggerHook', interval=50, log_metric_by_epoch=False),
    param_scheduler=dict(type='ParamSchedulerHook'),
    dino_schedule=dict(
        type='DINOScheduleHook',
        momentum=(0.996, 1.0),
        teacher_temperature=(0.04, 0.07),
        temperature_epochs=30,
        end_weight_decay=0.4,
        frozen_epochs=1,
    ),
    histograms=dict(type='HistogramHook', interval=500),
    collapse=dict(type='CollapseHook', interval=50),
    features=dict(
        type='FeatureHook', pipeline=[dict(type='ResizeCrop', size=64), dict(type='PackViews')], num_train=1000, num_val=400
    ),
    checkpoint=dict(type='AtomicCheckpointHook', interval=1, max_keep_ckpts=2, save_best='dino/loss', rule='less'),
    training_scores=dict(type='TrainingScoresHook', num_images=250),
    sync_buffers=dict(type='SyncBuffersHook'),
    metrics_csv=dict(type='MetricsCsvHook'),
    progress_bar=dict(type='ProgressBarHook'),
)
