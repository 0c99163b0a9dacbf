# DeepLab without ASPP and decoder: a 1x1 convolution, a 1x1 predictor, plain upsampling.
_base_ = ['joint_r18-d16.py']
model = dict(
    data_preprocessor=dict(size_divisor=32),
    backbone=dict(output_stride=32),
    decode_head=dict(head=dict(_delete_=True, type='LinearHead', channels=256)),
)
