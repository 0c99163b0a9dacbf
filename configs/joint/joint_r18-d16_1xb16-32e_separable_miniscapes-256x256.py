# Joint DeepLabV3+ with depthwise separable convolutions in ASPP and decoder, as in the paper (arXiv 1802.02611).
# python tools/train.py configs/joint/joint_r18-d16_1xb16-32e_separable_miniscapes-256x256.py
_base_ = ['joint_r18-d16_1xb16-32e_miniscapes-256x256.py']
model = dict(fast_depthwise=True, decode_head=dict(head=dict(separable=True)))
