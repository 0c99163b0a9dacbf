# Baseline for depth alone: no ASPP, no decoder, random weights, no dilation, SGD 0.01.
# python tools/train.py configs/baseline/baseline-depth_r18-d32_1xb16-16e_miniscapes-256x256.py
_base_ = ['baseline_r18-d32_1xb16-16e_miniscapes-256x256.py']
model = dict(backbone=dict(zero_init_residual=True), tasks=dict(semseg=None))
