# Joint DeepLabV3+ with skips at strides 8, 4 and 2, narrower toward the finest.
# python tools/train.py configs/joint/joint_r18-d16_1xb16-32e_skips-8-4-2_miniscapes-256x256.py
_base_ = ['joint_r18-d16_1xb16-32e_miniscapes-256x256.py']
model = dict(
    backbone=dict(with_stem=True),
    decode_head=dict(head=dict(skip_indices=(2, 1, 0), skip_channels=(48, 48, 16), decoder_channels=(256, 128, 64), num_convs=1)),
)
