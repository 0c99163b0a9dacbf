# Baseline: no ASPP, no decoder, random weights, no dilation, SGD 0.01; ResNet-34, batch 4.
# python tools/train.py configs/baseline/baseline_r34-d32_1xb4-16e_miniscapes-256x256.py
_base_ = [
    '../_base_/models/baseline_r18-d32.py',
    '../_base_/datasets/miniscapes_256x256.py',
    '../_base_/schedules/schedule_sgd_16e.py',
    '../_base_/default_runtime.py',
]
model = dict(backbone=dict(depth=34))
train_dataloader = dict(batch_size=4)
