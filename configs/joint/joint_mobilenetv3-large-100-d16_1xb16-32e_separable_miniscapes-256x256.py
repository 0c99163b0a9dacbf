# Joint separable DeepLabV3+ on MobileNetV3-L (arXiv 1905.02244) at output stride 16 with timm's weights.
# python tools/train.py configs/joint/joint_mobilenetv3-large-100-d16_1xb16-32e_separable_miniscapes-256x256.py
_base_ = ['joint_r18-d16_1xb16-32e_separable_miniscapes-256x256.py']
model = dict(
    data_preprocessor=dict(size_divisor=16),
    backbone=dict(
        _delete_=True,
        type='TimmBackbone',
        name='mobilenetv3_large_100',
        output_stride=16,
        init_cfg=dict(type='Pretrained', checkpoint='timm'),
    ),
)
