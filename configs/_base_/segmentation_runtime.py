# The default runtime for segmentation alone, without a submission; also scores a part of the training split.
_base_ = ['default_runtime.py']
submission = dict(enabled=False)
default_hooks = dict(
    checkpoint=dict(save_best='metrics_summary/semseg', rule='greater'),
    training_scores=dict(type='TrainingScoresHook', num_images=250),
)
