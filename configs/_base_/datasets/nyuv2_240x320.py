# NYU Depth V2 at 240x320 with 13 classes and its training recipe. Validation uses whole frames.
# mtl data convert nyuv2 NYUV2 data/nyuv2-240x320 --size 240x320 --num-classes 13
_base_ = ['miniscapes_256x256.py', '../schedules/schedule_adamw-warmup_12e.py']

# The recipe.
crop_size = (224, 288)
scale = (0.9, 1.5)
flip_prob = 0.5
jitter = dict(brightness=0.4, contrast=0.4, saturation=0.4, hue=0.08)
batch_size = 8

data = dict(type='NYUv2Dataset', data_root='data/nyuv2-240x320', num_classes=13)
whole_frames = [dict(type='LoadLabelledImage'), dict(type='PackMultiTaskInputs')]
train_dataloader = dict(
    batch_size=batch_size,
    dataset=dict(
        **data,
        pipeline=[
            dict(type='LoadLabelledImage'),
            dict(type='torchvision.ColorJitter', **jitter),
            dict(type='RandomHomography', crop_size=crop_size, scale=scale, flip_prob=flip_prob, rescale_depth=True),
            dict(type='PackMultiTaskInputs', meta_keys=()),
        ],
    ),
)
val_dataloader = dict(dataset=dict(**data, split='test', pipeline=whole_frames))
test_dataloader = dict(dataset=dict(**data, split='test', pipeline=whole_frames))
test_evaluator = [dict(type='MultiTaskMetric')]
