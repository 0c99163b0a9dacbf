# Distilled (in the manner of PAD-Net, arXiv 1805.04409): branches that exchange gated features and predict twice; ResNet-18.
# python tools/train.py configs/distilled/distilled_r18-d16_1xb16-32e_miniscapes-256x256.py
_base_ = [
    '../_base_/models/distilled_r18-d16.py',
    '../_base_/datasets/miniscapes_256x256.py',
    '../_base_/schedules/schedule_adam_32e.py',
    '../_base_/default_runtime.py',
]
