# Joint DeepLabV3+ with three 3x3 convolutions in the decoder.
# python tools/train.py configs/joint/joint_r18-d16_1xb16-32e_3conv_miniscapes-256x256.py
_base_ = ['joint_r18-d16_1xb16-32e_miniscapes-256x256.py']
model = dict(decode_head=dict(head=dict(num_convs=3)))
