# Joint DeepLabV3+ with skips at strides 8 and 4.
# python tools/train.py configs/joint/joint_r18-d16_1xb16-32e_skips-8-4_miniscapes-256x256.py
_base_ = ['joint_r18-d16_1xb16-32e_miniscapes-256x256.py']
model = dict(decode_head=dict(head=dict(skip_indices=(2, 1), num_convs=1)))
