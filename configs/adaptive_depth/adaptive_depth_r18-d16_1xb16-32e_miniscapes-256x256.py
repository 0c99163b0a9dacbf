# Adaptive depth: 256 bins from a 16x16 grid of decoder features and three transformer blocks (cf. AdaBins, arXiv 2011.14141).
# python tools/train.py configs/adaptive_depth/adaptive_depth_r18-d16_1xb16-32e_miniscapes-256x256.py
_base_ = [
    '../_base_/models/adaptive_depth_r18-d16.py',
    '../_base_/datasets/miniscapes_256x256.py',
    '../_base_/schedules/schedule_adam_32e.py',
    '../_base_/default_runtime.py',
]
default_hooks = dict(checkpoint=dict(save_best='metrics_summary/depth', rule='less'))
