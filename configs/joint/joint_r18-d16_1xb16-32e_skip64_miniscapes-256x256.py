# Joint DeepLabV3+ with 64 skip channels.
# python tools/train.py configs/joint/joint_r18-d16_1xb16-32e_skip64_miniscapes-256x256.py
_base_ = ['joint_r18-d16_1xb16-32e_miniscapes-256x256.py']
model = dict(decode_head=dict(head=dict(skip_channels=64)))
