# Baseline of 2020: no ASPP, no decoder, random weights, SGD 0.01, depth in normalised metres.
# python tools/train.py configs/baseline/baseline_r34-d32_1xb4-16e_course2020_miniscapes-256x256.py
_base_ = [
    '../_base_/models/course2020-baseline_r34-d32.py',
    '../_base_/course2020_runtime.py',
    '../_base_/schedules/schedule_sgd_16e.py',
]
