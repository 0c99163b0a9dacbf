# Joint DeepLabV3+ with one 3x3 convolution in the decoder.
# python tools/train.py configs/joint/joint_r18-d16_1xb16-32e_1conv_miniscapes-256x256.py
_base_ = ['joint_r18-d16_1xb16-32e_miniscapes-256x256.py']
model = dict(decode_head=dict(head=dict(num_convs=1)))
