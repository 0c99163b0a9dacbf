# Joint separable DeepLabV3+ on FastViT-T8 (arXiv 2303.14189) with timm's weights.
# python tools/train.py configs/joint/joint_fastvit-t8-d32_1xb16-32e_separable_miniscapes-256x256.py
_base_ = ['joint_r18-d16_1xb16-32e_separable_miniscapes-256x256.py']
model = dict(
    data_preprocessor=dict(size_divisor=32),
    backbone=dict(
        _delete_=True,
        type='TimmBackbone',
        name='fastvit_t8',
        init_cfg=dict(type='Pretrained', checkpoint='timm'),
    ),
)
