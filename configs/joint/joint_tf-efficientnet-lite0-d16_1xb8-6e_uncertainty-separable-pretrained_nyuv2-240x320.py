# Joint model of NYU Depth V2, first of two stages: six epochs on crops with learned weights of the losses.
# python tools/train.py configs/joint/joint_tf-efficientnet-lite0-d16_1xb8-6e_uncertainty-separable-pretrained_nyuv2-240x320.py
_base_ = [
    'joint_tf-efficientnet-lite0-d16_1xb8-12e_separable-pretrained_nyuv2-240x320.py',
    '../_base_/task_balancing/uncertainty.py',
]
train_cfg = dict(max_epochs=6, val_interval=6)
param_scheduler = [_base_.param_scheduler[0], dict(_base_.param_scheduler[1], end=6)]
