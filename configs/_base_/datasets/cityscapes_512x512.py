# Cityscapes' official folders: random 512x512 crops for training, whole frames otherwise. `num_classes=7` in the three data sets
# selects the seven categories. `--data-root` or MTL_DATA_ROOT replaces the three data roots.
_base_ = ['miniscapes_256x256.py']
train_dataloader = dict(
    dataset=dict(
        type='CityscapesDataset',
        data_root='data/cityscapes',
        pipeline=[
            dict(type='LoadLabelledImage'),
            dict(type='RandomHomography', crop_size=512, flip_prob=0.5),
            dict(type='PackMultiTaskInputs', meta_keys=()),
        ],
    ),
)
whole_frames = [dict(type='LoadLabelledImage'), dict(type='PackMultiTaskInputs')]
val_dataloader = dict(batch_size=2, dataset=dict(type='CityscapesDataset', data_root='data/cityscapes', pipeline=whole_frames))
test_dataloader = dict(batch_size=2, dataset=dict(type='CityscapesDataset', data_root='data/cityscapes', pipeline=whole_frames))
