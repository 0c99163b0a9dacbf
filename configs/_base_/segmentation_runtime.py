# The default runtime for segmentation alone, without a submission.
_base_ = ['default_runtime.py']
submission = dict(enabled=False)
default_hooks = dict(checkpoint=dict(save_best='metrics_summary/semseg', rule='greater'))
