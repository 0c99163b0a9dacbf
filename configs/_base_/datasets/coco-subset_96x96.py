# Five classes and background on a generated COCO of small images: random 96x96 crops for training, whole images otherwise.
# `--data-root` or MTL_DATA_ROOT replaces the data roots; `mtl data make-coco` makes the data.
train_dataloader = dict(
    batch_size=16,
    num_workers=2,
    worker_type='thread',
    drop_last=True,
    sampler=dict(type='EpochSampler', shuffle=True),
    collate_fn=dict(type='multitask_collate'),
    dataset=dict(
        type='COCOSubsetDataset',
        data_root='data/coco',
        split='train',
        classes=['person', 'car', 'bicycle', 'cat', 'dog'],
        pipeline=[
            dict(type='LoadCOCOSubset'),
            dict(type='ResizeToCover', size=96, enlarge_only=True),
            dict(type='RandomHomography', crop_size=96, scale=(1.0, 1.5), flip_prob=0.5),
            dict(type='PackMultiTaskInputs', meta_keys=()),
        ],
    ),
)
val_dataloader = dict(
    batch_size=16,
    num_workers=2,
    worker_type='thread',
    sampler=dict(type='EpochSampler', shuffle=False),
    collate_fn=dict(type='multitask_collate'),
    dataset=dict(
        type='COCOSubsetDataset',
        data_root='data/coco',
        split='val',
        classes=['person', 'car', 'bicycle', 'cat', 'dog'],
        test_mode=True,
        pipeline=[dict(type='LoadCOCOSubset'), dict(type='PackMultiTaskInputs')],
    ),
)
val_evaluator = dict(type='IoUMetric')
