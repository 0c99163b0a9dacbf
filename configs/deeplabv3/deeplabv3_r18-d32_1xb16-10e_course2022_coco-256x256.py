# The network of the assignment of 2022, with its data and its `binary_segmentation.pth`: stride 32, a skip, two 3x3 convolutions.
# python tools/train.py configs/deeplabv3/deeplabv3_r18-d32_1xb16-10e_course2022_coco-256x256.py --data-root DATA
_base_ = ['deeplabv3_r18-d16_1xb16-10e_coco-256x256.py']
start = dict(type='Pretrained', checkpoint='binary_segmentation.pth')
head = dict(type='DeepLabV3PlusHead', rates=(6, 12, 18), skip_channels=48, num_convs=2, skip_norm=True, fuse_norm=True)
model = dict(
    data_preprocessor=dict(size_divisor=32),
    backbone=dict(output_stride=32, init_cfg=dict(**start, prefix='encoder.')),
    decode_head=dict(head=dict(_delete_=True, **head, init_cfg=dict(**start, prefix='decoder.'))),
)
train_dataloader = dict(dataset=dict(split='train'))
val_dataloader = dict(dataset=dict(split='val'))
test_dataloader = dict(dataset=dict(split='val'))
