# Baseline of 2020 from ImageNet weights with dilation (output stride 16), Adam 1e-4.
# python tools/train.py configs/baseline/baseline_r34-d16_1xb4-32e_course2020-adam-pretrained_miniscapes-256x256.py
_base_ = [
    '../_base_/models/course2020-baseline_r34-d32.py',
    '../_base_/course2020_runtime.py',
    '../_base_/schedules/schedule_adam_32e.py',
]
model = dict(
    data_preprocessor=dict(size_divisor=16),
    backbone=dict(output_stride=16, init_cfg=dict(type='Pretrained', checkpoint='torchvision://resnet34')),
)
