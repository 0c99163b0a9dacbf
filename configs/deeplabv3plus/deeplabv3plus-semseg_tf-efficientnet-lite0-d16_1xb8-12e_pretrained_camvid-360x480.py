# Separable DeepLabV3+ on EfficientNet-Lite0, ImageNet weights: the 11 classes of CamVid at 360x480.
# python tools/train.py configs/deeplabv3plus/deeplabv3plus-semseg_tf-efficientnet-lite0-d16_1xb8-12e_pretrained_camvid-360x480.py
_base_ = [
    '../_base_/models/joint_tf-efficientnet-lite0-d16.py',
    '../_base_/datasets/camvid_360x480.py',
    '../_base_/default_runtime.py',
]
model = dict(tasks=dict(depth=None))
submission = dict(enabled=False)
