# The real COCO 2017: random 256x256 crops at scales of 0.5 to 1.5 for training, whole images otherwise.
_base_ = ['coco-subset_96x96.py']
train_dataloader = dict(
    dataset=dict(
        split='train2017',
        pipeline=[
            dict(type='LoadCOCOSubset'),
            dict(type='ResizeToCover', size=256, enlarge_only=True),
            dict(type='RandomHomography', crop_size=256, scale=(0.5, 1.5), flip_prob=0.5),
            dict(type='PackMultiTaskInputs', meta_keys=()),
        ],
    ),
)
val_dataloader = dict(batch_size=8, dataset=dict(split='val2017'))
