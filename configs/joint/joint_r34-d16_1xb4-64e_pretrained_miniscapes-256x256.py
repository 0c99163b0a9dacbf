# Joint DeepLabV3+ (arXiv 1802.02611), ResNet-34 from ImageNet weights, batch 4.
# python tools/train.py configs/joint/joint_r34-d16_1xb4-64e_pretrained_miniscapes-256x256.py
_base_ = ['joint_r34-d16_1xb4-64e_miniscapes-256x256.py']
model = dict(backbone=dict(init_cfg=dict(type='Pretrained', checkpoint='torchvision://resnet34')))
