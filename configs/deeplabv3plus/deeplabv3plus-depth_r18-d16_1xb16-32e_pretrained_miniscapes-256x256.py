# DeepLabV3+ for depth alone, ResNet-18 from ImageNet weights.
# python tools/train.py configs/deeplabv3plus/deeplabv3plus-depth_r18-d16_1xb16-32e_pretrained_miniscapes-256x256.py
_base_ = ['deeplabv3plus-depth_r18-d16_1xb16-32e_miniscapes-256x256.py']
model = dict(backbone=dict(init_cfg=dict(type='Pretrained', checkpoint='torchvision://resnet18')))
