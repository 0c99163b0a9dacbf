# Joint separable DeepLabV3+ with half the width: 128 channels in ASPP and decoder.
# python tools/train.py configs/joint/joint_r18-d16_1xb16-32e_separable-128_miniscapes-256x256.py
_base_ = ['joint_r18-d16_1xb16-32e_separable_miniscapes-256x256.py']
model = dict(decode_head=dict(head=dict(channels=128)))
