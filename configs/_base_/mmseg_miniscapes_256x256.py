# Data, metric and runtime for a whole model of mmseg, counted in iterations; optimizer and schedule come from mmseg's config.
_base_ = ['models/mmseg.py', 'datasets/miniscapes_256x256.py', 'default_runtime.py']
train_dataloader = dict(sampler=dict(type='IterationSampler', shuffle=True))
val_cfg = dict(type='InferenceValLoop')
test_cfg = dict(type='InferenceTestLoop')
default_hooks = dict(
    checkpoint=dict(
        _delete_=True,
        type='AtomicCheckpointHook',
        by_epoch=False,
        max_keep_ckpts=2,
        save_best='metrics_summary/semseg',
    )
)
log_processor = dict(by_epoch=False)
