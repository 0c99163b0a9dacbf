# Adaptive depth with the ASPP's latents, ResNet-18 from ImageNet weights.
# python tools/train.py configs/adaptive_depth/adaptive_depth_r18-d16_1xb16-32e_aspp-latents-pretrained_miniscapes-256x256.py
_base_ = ['adaptive_depth_r18-d16_1xb16-32e_aspp-latents_miniscapes-256x256.py']
model = dict(backbone=dict(init_cfg=dict(type='Pretrained', checkpoint='torchvision://resnet18')))
