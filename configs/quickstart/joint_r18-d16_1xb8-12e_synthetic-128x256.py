# Joint DeepLabV3+, ResNet-18 from random weights, on a small generated data set: what `make demo` trains.
# python tools/train.py configs/quickstart/joint_r18-d16_1xb8-12e_synthetic-128x256.py --data-root DATA
_base_ = [
    '../_base_/models/joint_r18-d16.py',
    '../_base_/datasets/miniscapes_256x256.py',
    '../_base_/schedules/schedule_adam_16e.py',
    '../_base_/default_runtime.py',
]
optim_wrapper = dict(optimizer=dict(lr=1e-3))
param_scheduler = [dict(type='PolyLR', power=0.9, eta_min=0.0, begin=0, end=12, by_epoch=True, convert_to_iter_based=True)]
train_cfg = dict(max_epochs=12)
train_dataloader = dict(
    batch_size=8,
    dataset=dict(
        pipeline=[
            dict(type='LoadMiniScapes'),
            dict(type='RandomHomography', crop_size=(128, 256), scale=(1.0, 1.5), flip_prob=0.5),
            dict(type='PackMultiTaskInputs', meta_keys=()),
        ]
    ),
)
default_hooks = dict(logger=dict(interval=20))
