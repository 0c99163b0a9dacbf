# The starting point of 2020: no ASPP, no decoder, no dilation.
_base_ = ['course2020_r34-d16.py']
model = dict(
    data_preprocessor=dict(size_divisor=32),
    backbone=dict(output_stride=32),
    decode_head=dict(head=dict(_delete_=True, type='LinearHead', channels=256)),
)
