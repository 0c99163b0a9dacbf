# The joint model for the 40 classes and depth of NYU Depth V2 at 288x384.
# python tools/train.py configs/joint/joint_tf-efficientnet-lite0-d16_1xb8-12e_40-separable-pretrained_nyuv2-288x384.py
_base_ = ['joint_tf-efficientnet-lite0-d16_1xb8-12e_separable-pretrained_nyuv2-288x384.py']
# From `mtl data statistics`; no training image has 'other prop'.
class_weight = [
    *[0.48, 0.78, 0.91, 1.14, 1.15, 1.26, 1.3, 1.3, 1.28, 1.31, 1.31, 1.39, 1.36, 1.45, 1.41, 1.45, 1.46, 1.48, 1.43, 1.5],
    *[1.47, 1.38, 1.52, 1.52, 1.52, 1.55, 1.56, 1.54, 1.54, 1.57, 1.56, 1.57, 1.57, 1.57, 1.57, 1.58, 1.58, 1.27, 1.32, 1.62],
]
model = dict(tasks=dict(semseg=dict(loss=dict(class_weight=class_weight))))
forty = dict(dataset=dict(num_classes=40))
train_dataloader = forty
val_dataloader = forty
test_dataloader = forty
