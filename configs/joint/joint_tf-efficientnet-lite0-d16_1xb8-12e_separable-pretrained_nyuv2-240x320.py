# Joint separable DeepLabV3+ on EfficientNet-Lite0, ImageNet weights: 13 classes and depth of NYU Depth V2 at 240x320.
# python tools/train.py configs/joint/joint_tf-efficientnet-lite0-d16_1xb8-12e_separable-pretrained_nyuv2-240x320.py
_base_ = [
    '../_base_/models/joint_tf-efficientnet-lite0-d16.py',
    '../_base_/datasets/nyuv2_240x320.py',
    '../_base_/default_runtime.py',
]
# From `mtl data statistics`.
class_weight = [1.49, 1.99, 1.8, 1.51, 0.99, 0.8, 1.08, 1.71, 1.65, 1.55, 1.98, 0.6, 1.35]
model = dict(
    tasks=dict(
        semseg=dict(loss=dict(type='UpsampledCrossEntropyLoss', class_weight=class_weight)),
        depth=dict(depth_range=(0.3, 12.0)),
    )
)
tta_model = dict(scales=(1.0, 1.25, 1.5), scale_compensation=True)
submission = dict(enabled=False)
