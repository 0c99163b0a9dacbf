# Joint separable DeepLabV3+ on EfficientNet-Lite0, ImageNet weights: 13 classes and depth of NYU Depth V2 at 240x320.
# python tools/train.py configs/joint/joint_tf-efficientnet-lite0-d16_1xb8-12e_separable-pretrained_nyuv2-240x320.py
_base_ = [
    '../_base_/models/joint_tf-efficientnet-lite0-d16.py',
    '../_base_/datasets/nyuv2_240x320.py',
    '../_base_/default_runtime.py',
]
model = dict(tasks=dict(depth=dict(depth_range=(0.3, 12.0))))
submission = dict(enabled=False)
