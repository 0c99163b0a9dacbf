# DeepLabV3 (arXiv 1706.05587), ResNet-18 from the weights of a DINO run, on the generated COCO.
# python tools/train.py configs/deeplabv3/deeplabv3_r18-d16_1xb16-10e_dino_synthetic-coco-96x96.py
_base_ = ['deeplabv3_r18-d16_1xb16-10e_synthetic-coco-96x96.py']
model = dict(
    backbone=dict(
        init_cfg=dict(
            type='Pretrained',
            checkpoint='work_dirs/dino_r18-d32_1xb64-20e_synthetic-coco-48x48/epoch_20.pth',
            prefix='teacher.backbone.',
        )
    )
)
