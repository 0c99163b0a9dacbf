# Baseline for depth alone from ImageNet weights, Adam 1e-4.
# python tools/train.py configs/baseline/baseline-depth_r18-d32_1xb16-16e_adam-pretrained_miniscapes-256x256.py
_base_ = ['baseline-depth_r18-d32_1xb16-16e_adam_miniscapes-256x256.py']
model = dict(backbone=dict(init_cfg=dict(type='Pretrained', checkpoint='torchvision://resnet18')))
