# Transformer multitask: self-attention between pooled ASPP features for segmentation, and an adaptive depth head.
# python tools/train.py configs/transformer_multitask/transformer_multitask-self_r18-d16_1xb16-32e_miniscapes-256x256.py
_base_ = [
    '../_base_/models/transformer_multitask-self_r18-d16.py',
    '../_base_/datasets/miniscapes_256x256.py',
    '../_base_/schedules/schedule_adam_32e.py',
    '../_base_/default_runtime.py',
]
