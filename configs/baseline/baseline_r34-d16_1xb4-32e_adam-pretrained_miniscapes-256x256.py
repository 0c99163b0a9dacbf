# Baseline from ImageNet weights with dilation (output stride 16), Adam 1e-4.
# python tools/train.py configs/baseline/baseline_r34-d16_1xb4-32e_adam-pretrained_miniscapes-256x256.py
_base_ = [
    '../_base_/models/baseline_r18-d32.py',
    '../_base_/datasets/miniscapes_256x256.py',
    '../_base_/schedules/schedule_adam_32e.py',
    '../_base_/default_runtime.py',
]
model = dict(
    data_preprocessor=dict(size_divisor=16),
    backbone=dict(depth=34, output_stride=16, init_cfg=dict(type='Pretrained', checkpoint='torchvision://resnet34')),
)
train_dataloader = dict(batch_size=4)
