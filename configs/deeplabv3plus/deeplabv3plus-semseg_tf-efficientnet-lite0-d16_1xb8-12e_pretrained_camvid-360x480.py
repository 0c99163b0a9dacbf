# Separable DeepLabV3+ on EfficientNet-Lite0, ImageNet weights: the 11 classes of CamVid at 360x480.
# python tools/train.py configs/deeplabv3plus/deeplabv3plus-semseg_tf-efficientnet-lite0-d16_1xb8-12e_pretrained_camvid-360x480.py
_base_ = [
    '../_base_/models/joint_tf-efficientnet-lite0-d16.py',
    '../_base_/datasets/camvid_360x480.py',
    '../_base_/default_runtime.py',
]
# From `mtl data statistics`.
class_weight = [0.98, 0.81, 2.28, 0.67, 1.74, 1.3, 2.24, 2.25, 1.6, 2.36, 2.43]
model = dict(
    tasks=dict(
        depth=None,
        semseg=dict(loss=dict(type='UpsampledCrossEntropyLoss', class_weight=class_weight)),
    )
)
tta_model = dict(scales=(0.75, 1.0, 1.25, 1.5))
submission = dict(enabled=False)
