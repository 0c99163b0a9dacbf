# Baseline from ImageNet weights, SGD 0.01.
# python tools/train.py configs/baseline/baseline_r34-d32_1xb4-32e_sgd-pretrained_miniscapes-256x256.py
_base_ = [
    '../_base_/models/baseline_r18-d32.py',
    '../_base_/datasets/miniscapes_256x256.py',
    '../_base_/schedules/schedule_sgd_32e.py',
    '../_base_/default_runtime.py',
]
model = dict(backbone=dict(depth=34, init_cfg=dict(type='Pretrained', checkpoint='torchvision://resnet34')))
train_dataloader = dict(batch_size=4)
