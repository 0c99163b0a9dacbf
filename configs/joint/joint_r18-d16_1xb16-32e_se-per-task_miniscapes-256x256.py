# Joint DeepLabV3+ with squeeze-and-excitation for each task in encoder, ASPP and decoder (arXiv 1904.08918).
# python tools/train.py configs/joint/joint_r18-d16_1xb16-32e_se-per-task_miniscapes-256x256.py
_base_ = ['joint_r18-d16_1xb16-32e_se-encoder-aspp_miniscapes-256x256.py']
model = dict(backbone=dict(num_tasks=2), decode_head=dict(type='AttentiveHead'))
