# DeepLabV3+ (arXiv 1802.02611) for depth alone, ResNet-18, output stride 16.
# python tools/train.py configs/deeplabv3plus/deeplabv3plus-depth_r18-d16_1xb16-32e_miniscapes-256x256.py
_base_ = [
    '../_base_/models/deeplabv3plus-depth_r18-d16.py',
    '../_base_/datasets/miniscapes_256x256.py',
    '../_base_/schedules/schedule_adam_32e.py',
    '../_base_/default_runtime.py',
]
default_hooks = dict(checkpoint=dict(save_best='metrics_summary/depth', rule='less'))
