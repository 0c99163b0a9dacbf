# Joint DeepLabV3+ on EfficientNet-B0 (arXiv 1905.11946) at output stride 16 with timm's weights.
# python tools/train.py configs/joint/joint_efficientnet-b0-d16_1xb16-32e_miniscapes-256x256.py
_base_ = ['joint_r18-d16_1xb16-32e_miniscapes-256x256.py']
model = dict(
    data_preprocessor=dict(size_divisor=16),
    backbone=dict(
        _delete_=True,
        type='TimmBackbone',
        name='efficientnet_b0',
        output_stride=16,
        init_cfg=dict(type='Pretrained', checkpoint='timm'),
    ),
)
