# Baseline for segmentation alone from ImageNet weights, Adam 1e-4.
# python tools/train.py configs/baseline/baseline-semseg_r18-d32_1xb16-16e_adam-pretrained_miniscapes-256x256.py
_base_ = ['baseline-semseg_r18-d32_1xb16-16e_adam_miniscapes-256x256.py']
model = dict(backbone=dict(init_cfg=dict(type='Pretrained', checkpoint='torchvision://resnet18')))
