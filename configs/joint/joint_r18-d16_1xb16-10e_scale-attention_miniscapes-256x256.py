# Attention to scale (arXiv 1511.03339) on a trained joint model, which is frozen.
# python tools/train.py configs/joint/joint_r18-d16_1xb16-10e_scale-attention_miniscapes-256x256.py
_base_ = [
    '../_base_/models/joint_r18-d16.py',
    '../_base_/datasets/miniscapes_256x256.py',
    '../_base_/schedules/schedule_adam_10e.py',
    '../_base_/default_runtime.py',
]
model = dict(
    type='ScaleAttentionSegmentor',
    init_cfg=dict(type='Pretrained', checkpoint='work_dirs/joint_r18-d16_1xb16-32e_pretrained_miniscapes-256x256/epoch_32.pth'),
)
