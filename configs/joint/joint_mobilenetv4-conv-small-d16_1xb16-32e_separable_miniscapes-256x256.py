# Joint separable DeepLabV3+ on MobileNetV4-Conv-S (arXiv 2404.10518) at output stride 16 with timm's weights.
# python tools/train.py configs/joint/joint_mobilenetv4-conv-small-d16_1xb16-32e_separable_miniscapes-256x256.py
_base_ = ['joint_r18-d16_1xb16-32e_separable_miniscapes-256x256.py']
model = dict(
    data_preprocessor=dict(size_divisor=16),
    backbone=dict(
        _delete_=True,
        type='TimmBackbone',
        name='mobilenetv4_conv_small',
        output_stride=16,
        init_cfg=dict(type='Pretrained', checkpoint='timm'),
    ),
)
