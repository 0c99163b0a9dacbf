# Single objects of a generated COCO of small images, in two views of 64x64 and four of 32x32, also for validation.
# `--data-root` or MTL_DATA_ROOT replaces the data roots; `mtl data make-coco` makes the data.
train_dataloader = dict(
    batch_size=32,
    num_workers=2,
    worker_type='thread',
    drop_last=True,
    sampler=dict(type='EpochSampler', shuffle=True),
    collate_fn=dict(type='view_collate'),
    dataset=dict(
        type='ObjectCropDataset',
        data_root='data/coco',
        split='train',
        margin=0.1,
        min_size=16,
        pipeline=[
            dict(type='MultiCrop', global_size=64, local_size=32, num_local=4),
            dict(type='PackViews', meta_keys=()),
        ],
    ),
)
val_dataloader = dict(
    batch_size=32,
    num_workers=2,
    worker_type='thread',
    sampler=dict(type='EpochSampler', shuffle=False),
    collate_fn=dict(type='view_collate'),
    dataset=dict(
        type='ObjectCropDataset',
        data_root='data/coco',
        split='val',
        margin=0.1,
        min_size=16,
        test_mode=True,
        pipeline=[
            dict(type='MultiCrop', global_size=64, local_size=32, num_local=4),
            dict(type='PackViews'),
        ],
    ),
)
