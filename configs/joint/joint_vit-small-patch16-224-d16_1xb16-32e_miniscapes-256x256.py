# Joint DeepLabV3+ on ViT-S/16 (arXiv 2010.11929) with a feature pyramid from its last map (ViTDet, arXiv 2203.16527).
# python tools/train.py configs/joint/joint_vit-small-patch16-224-d16_1xb16-32e_miniscapes-256x256.py
_base_ = ['joint_r18-d16_1xb16-32e_miniscapes-256x256.py']
model = dict(
    backbone=dict(
        _delete_=True,
        type='TimmBackbone',
        name='vit_small_patch16_224',
        init_cfg=dict(type='Pretrained', checkpoint='timm'),
    ),
    neck=dict(type='PlainViTPyramid', finest_index=1, pool=False),
)
