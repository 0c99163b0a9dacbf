# Six epochs of the separable model cost the processor time of three of the dense one: what `make demo` trains.
# python tools/train.py configs/quickstart/joint_tf-efficientnet-lite0-d16_1xb4-6e_separable-pretrained_synthetic-128x256.py
_base_ = ['joint_tf-efficientnet-lite0-d16_1xb4-3e_separable-pretrained_synthetic-128x256.py']
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=30),
    dict(type='PolyLR', power=0.9, eta_min=0.0, begin=0, end=6, by_epoch=True, convert_to_iter_based=True),
]
train_cfg = dict(max_epochs=6)
