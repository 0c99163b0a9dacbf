# Baseline of 2020 with Adam 1e-4.
# python tools/train.py configs/baseline/baseline_r34-d32_1xb4-16e_course2020-adam_miniscapes-256x256.py
_base_ = [
    '../_base_/models/course2020-baseline_r34-d32.py',
    '../_base_/course2020_runtime.py',
    '../_base_/schedules/schedule_adam_16e.py',
]
