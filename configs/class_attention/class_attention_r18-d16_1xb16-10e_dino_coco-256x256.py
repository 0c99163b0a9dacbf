# Class attention on DeepLabV3 (arXiv 1706.05587), ResNet-18 from the weights of a DINO run, on COCO 2017.
# python tools/train.py configs/class_attention/class_attention_r18-d16_1xb16-10e_dino_coco-256x256.py
_base_ = ['class_attention_r18-d16_1xb16-10e_coco-256x256.py']
model = dict(
    backbone=dict(
        init_cfg=dict(
            type='Pretrained',
            checkpoint='work_dirs/dino_r18-d32_1xb64-100e_coco-crops-224x224/epoch_100.pth',
            prefix='teacher.backbone.',
        )
    )
)
