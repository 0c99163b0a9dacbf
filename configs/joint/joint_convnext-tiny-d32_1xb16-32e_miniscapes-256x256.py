# Joint DeepLabV3+ on ConvNeXt-T (arXiv 2201.03545) with timm's weights.
# python tools/train.py configs/joint/joint_convnext-tiny-d32_1xb16-32e_miniscapes-256x256.py
_base_ = ['joint_r18-d16_1xb16-32e_miniscapes-256x256.py']
model = dict(
    data_preprocessor=dict(size_divisor=32),
    backbone=dict(
        _delete_=True,
        type='TimmBackbone',
        name='convnext_tiny',
        output_stride=32,
        init_cfg=dict(type='Pretrained', checkpoint='timm'),
    ),
)
