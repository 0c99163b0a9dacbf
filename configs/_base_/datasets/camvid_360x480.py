# CamVid at 360x480 with the 11 classes of SegNet and its training recipe. Validation uses whole frames.
# `--data-root` or MTL_DATA_ROOT replaces the three data roots.
_base_ = ['miniscapes_256x256.py', '../schedules/schedule_adamw-warmup_12e.py']

# The recipe.
crop_size = (320, 416)
scale = (0.75, 1.5)
flip_prob = 0.5
jitter = dict(brightness=0.4, contrast=0.4, saturation=0.4, hue=0.08)
batch_size = 8

data = dict(type='CamVidDataset', data_root='data/camvid')
whole_frames = [dict(type='LoadLabelledImage'), dict(type='PackMultiTaskInputs')]
train_dataloader = dict(
    batch_size=batch_size,
    dataset=dict(
        **data,
        pipeline=[
            dict(type='LoadLabelledImage'),
            dict(type='torchvision.ColorJitter', **jitter),
            dict(type='RandomHomography', crop_size=crop_size, scale=scale, flip_prob=flip_prob),
            dict(type='PackMultiTaskInputs', meta_keys=()),
        ],
    ),
)
val_dataloader = dict(dataset=dict(**data, pipeline=whole_frames))
test_dataloader = dict(dataset=dict(**data, pipeline=whole_frames))
test_evaluator = [dict(type='MultiTaskMetric')]
