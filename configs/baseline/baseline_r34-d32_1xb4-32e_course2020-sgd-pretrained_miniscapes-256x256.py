# Baseline of 2020 from ImageNet weights, SGD 0.01.
# python tools/train.py configs/baseline/baseline_r34-d32_1xb4-32e_course2020-sgd-pretrained_miniscapes-256x256.py
_base_ = [
    '../_base_/models/course2020-baseline_r34-d32.py',
    '../_base_/course2020_runtime.py',
    '../_base_/schedules/schedule_sgd_32e.py',
]
model = dict(backbone=dict(init_cfg=dict(type='Pretrained', checkpoint='torchvision://resnet34')))
