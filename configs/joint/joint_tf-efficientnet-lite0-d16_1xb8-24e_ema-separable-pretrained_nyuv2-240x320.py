# Joint model of NYU Depth V2, second stage: whole frames, blurred and sharpened, at a constant rate, with averaged weights.
# python tools/train.py configs/joint/joint_tf-efficientnet-lite0-d16_1xb8-24e_ema-separable-pretrained_nyuv2-240x320.py
_base_ = ['joint_tf-efficientnet-lite0-d16_1xb8-6e_uncertainty-separable-pretrained_nyuv2-240x320.py']
load_from = 'work_dirs/joint_tf-efficientnet-lite0-d16_1xb8-6e_uncertainty-separable-pretrained_nyuv2-240x320/epoch_6.pth'
train_cfg = dict(max_epochs=24, val_interval=4)
optim_wrapper = dict(optimizer=dict(lr=5e-4))
param_scheduler = [_base_.param_scheduler[0], dict(type='ConstantLR', factor=1.0, begin=0, end=24)]
custom_hooks = [dict(type='EMAHook', momentum=0.005, update_buffers=True)]
pipeline = [
    dict(type='LoadLabelledImage'),
    dict(type='torchvision.ColorJitter', **_base_.jitter),
    dict(type='RandomHomography', crop_size=(240, 320), scale=(0.9, 1.15), rescale_depth=True, interpolation='bicubic'),
    dict(type='torchvision.GaussianBlur', kernel_size=5, sigma=(0.1, 1.0)),
    dict(type='torchvision.RandomAdjustSharpness', sharpness_factor=3.0),
    dict(type='PackMultiTaskInputs', meta_keys=()),
]
train_dataloader = dict(dataset=dict(pipeline=pipeline))
tta_model = dict(scales=[0.85, 1.0, 1.15])
