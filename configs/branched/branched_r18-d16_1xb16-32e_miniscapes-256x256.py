# Branched DeepLabV3+: an ASPP and a decoder per task; ResNet-18.
# python tools/train.py configs/branched/branched_r18-d16_1xb16-32e_miniscapes-256x256.py
_base_ = [
    '../_base_/models/branched_r18-d16.py',
    '../_base_/datasets/miniscapes_256x256.py',
    '../_base_/schedules/schedule_adam_32e.py',
    '../_base_/default_runtime.py',
]
