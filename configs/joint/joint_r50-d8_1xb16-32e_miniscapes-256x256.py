# Joint DeepLabV3+ (arXiv 1802.02611), ResNet-50 from ImageNet weights, output stride 8.
# python tools/train.py configs/joint/joint_r50-d8_1xb16-32e_miniscapes-256x256.py
_base_ = ['joint_r18-d16_1xb16-32e_miniscapes-256x256.py']
model = dict(
    data_preprocessor=dict(size_divisor=8),
    backbone=dict(depth=50, output_stride=8, init_cfg=dict(type='Pretrained', checkpoint='torchvision://resnet50')),
)
