# Joint DeepLabV3+ (arXiv 1802.02611), ResNet-18, output stride 16, counted in iterations.
# python tools/train.py configs/joint/joint_r18-d16_1xb16-40k_miniscapes-256x256.py
_base_ = [
    '../_base_/models/joint_r18-d16.py',
    '../_base_/datasets/miniscapes_256x256.py',
    '../_base_/default_runtime.py',
    '../_base_/schedules/schedule_adam_40k.py',
]
train_dataloader = dict(sampler=dict(type='IterationSampler', shuffle=True))
default_hooks = dict(checkpoint=dict(by_epoch=False, interval=2000))
log_processor = dict(by_epoch=False)
