# NYU Depth V2 in the arrays of the multi-task literature: whole frames, mirrored at random for training. There are two splits.
# For pictures, which have no normals, these are fitted to the depth.
# `--data-root` or MTL_DATA_ROOT replaces the three data roots.
_base_ = ['miniscapes_256x256.py']
train_dataloader = dict(
    dataset=dict(
        type='NYUv2Dataset',
        fit_normals=9,
        data_root='data/nyuv2',
        pipeline=[
            dict(type='LoadLabelledImage'),
            dict(type='RandomHomography', crop_size=(288, 384), flip_prob=0.5),
            dict(type='PackMultiTaskInputs', meta_keys=()),
        ],
    ),
)
whole_frames = [dict(type='LoadLabelledImage'), dict(type='PackMultiTaskInputs')]
val_dataloader = dict(dataset=dict(type='NYUv2Dataset', fit_normals=9, data_root='data/nyuv2', pipeline=whole_frames))
test_dataloader = dict(
    dataset=dict(type='NYUv2Dataset', fit_normals=9, data_root='data/nyuv2', split='val', pipeline=whole_frames)
)
test_evaluator = [dict(type='MultiTaskMetric')]
