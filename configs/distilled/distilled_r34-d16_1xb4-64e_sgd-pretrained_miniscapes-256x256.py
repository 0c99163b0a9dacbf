# Distilled; ResNet-34 from ImageNet weights, batch 4, SGD 0.01.
# python tools/train.py configs/distilled/distilled_r34-d16_1xb4-64e_sgd-pretrained_miniscapes-256x256.py
_base_ = [
    '../_base_/models/distilled_r18-d16.py',
    '../_base_/datasets/miniscapes_256x256.py',
    '../_base_/schedules/schedule_sgd_64e.py',
    '../_base_/default_runtime.py',
]
model = dict(backbone=dict(depth=34, init_cfg=dict(type='Pretrained', checkpoint='torchvision://resnet34')))
train_dataloader = dict(batch_size=4)
