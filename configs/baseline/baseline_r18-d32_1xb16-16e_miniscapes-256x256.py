# Baseline: no ASPP, no decoder, random weights, no dilation, SGD 0.01; ResNet-18, batch 16.
# python tools/train.py configs/baseline/baseline_r18-d32_1xb16-16e_miniscapes-256x256.py
_base_ = [
    '../_base_/models/baseline_r18-d32.py',
    '../_base_/datasets/miniscapes_256x256.py',
    '../_base_/schedules/schedule_sgd_16e.py',
    '../_base_/default_runtime.py',
]
