# Joint DeepLabV3+, ResNet-18 from random weights, three epochs on a small generated data set.
# python tools/train.py configs/quickstart/joint_r18-d16_1xb4-3e_synthetic-128x256.py --data-root DATA
_base_ = ['../joint/joint_r18-d16_1xb16-32e_miniscapes-256x256.py']
optim_wrapper = dict(optimizer=dict(lr=1e-3))
param_scheduler = [dict(type='PolyLR', power=0.9, eta_min=0.0, begin=0, end=3, by_epoch=True, convert_to_iter_based=True)]
train_cfg = dict(max_epochs=3)
train_dataloader = dict(
    batch_size=4,
    dataset=dict(
        pipeline=[
            dict(type='LoadMiniScapes'),
            dict(type='RandomHomography', crop_size=(128, 256), flip_prob=0.5),
            dict(type='PackMultiTaskInputs', meta_keys=()),
        ]
    ),
)
