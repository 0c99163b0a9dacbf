# Distilled of 2020: 3x3 gates on the ASPP and the raw skip, ImageNet weights, Adam 1e-4.
# python tools/train.py configs/distilled/distilled_r34-d16_1xb4-64e_course2020-pretrained_miniscapes-256x256.py
_base_ = [
    '../_base_/models/course2020_r34-d16.py',
    '../_base_/course2020_runtime.py',
    '../_base_/schedules/schedule_adam_64e.py',
]
model = dict(
    backbone=dict(init_cfg=dict(type='Pretrained', checkpoint='torchvision://resnet34')),
    decode_head=dict(type='DistilledHead', gate_kernel_size=3),
)
