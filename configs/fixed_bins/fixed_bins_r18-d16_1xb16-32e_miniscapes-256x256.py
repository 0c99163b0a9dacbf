# Depth as the expectation over 256 fixed bins, spaced along the logarithm from 4 to 300 m.
# python tools/train.py configs/fixed_bins/fixed_bins_r18-d16_1xb16-32e_miniscapes-256x256.py
_base_ = [
    '../_base_/models/fixed_bins_r18-d16.py',
    '../_base_/datasets/miniscapes_256x256.py',
    '../_base_/schedules/schedule_adam_32e.py',
    '../_base_/default_runtime.py',
]
default_hooks = dict(checkpoint=dict(save_best='metrics_summary/depth', rule='less'))
