# Joint DeepLabV3+ (arXiv 1802.02611), ResNet-18 from ImageNet weights.
# python tools/train.py configs/joint/joint_r18-d16_1xb16-32e_pretrained_miniscapes-256x256.py
_base_ = ['joint_r18-d16_1xb16-32e_miniscapes-256x256.py']
model = dict(backbone=dict(init_cfg=dict(type='Pretrained', checkpoint='torchvision://resnet18')))
