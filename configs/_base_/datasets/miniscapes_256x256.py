# Random 256x256 crops for training, whole frames otherwise. `--data-root` or MTL_DATA_ROOT replaces the three data roots.
train_dataloader = dict(
    batch_size=16,
    num_workers=2,
    worker_type='thread',
    drop_last=True,
    sampler=dict(type='EpochSampler', shuffle=True),
    collate_fn=dict(type='multitask_collate'),
    dataset=dict(
        type='MiniScapesDataset',
        data_root='data/miniscapes',
        split='train',
        pipeline=[
            dict(type='LoadMiniScapes'),
            dict(type='RandomHomography', crop_size=256, flip_prob=0.5),
            dict(type='PackMultiTaskInputs', meta_keys=()),
        ],
    ),
)
val_dataloader = dict(
    batch_size=8,
    num_workers=2,
    worker_type='thread',
    sampler=dict(type='EpochSampler', shuffle=False),
    collate_fn=dict(type='multitask_collate'),
    dataset=dict(
        type='MiniScapesDataset',
        data_root='data/miniscapes',
        split='val',
        test_mode=True,
        pipeline=[dict(type='LoadMiniScapes'), dict(type='PackMultiTaskInputs')],
    ),
)
test_dataloader = dict(
    batch_size=8,
    num_workers=2,
    worker_type='thread',
    sampler=dict(type='EpochSampler', shuffle=False),
    collate_fn=dict(type='multitask_collate'),
    dataset=dict(
        type='MiniScapesDataset',
        data_root='data/miniscapes',
        split='test',
        test_mode=True,
        pipeline=[dict(type='LoadMiniScapes'), dict(type='PackMultiTaskInputs')],
    ),
)
val_evaluator = dict(type='MultiTaskMetric')
# The test split has no labels: it is predicted and submitted, not evaluated.
test_evaluator = []
