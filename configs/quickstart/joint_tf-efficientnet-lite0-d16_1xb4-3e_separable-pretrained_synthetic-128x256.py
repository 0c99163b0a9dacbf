# The demo's model with separable convolutions, AdamW and warm-up: half the processor time for a step.
# python tools/train.py configs/quickstart/joint_tf-efficientnet-lite0-d16_1xb4-3e_separable-pretrained_synthetic-128x256.py
_base_ = ['joint_tf-efficientnet-lite0-d16_1xb4-3e_pretrained_synthetic-128x256.py']
model = dict(fast_depthwise=True, decode_head=dict(head=dict(separable=True)))
optim_wrapper = dict(optimizer=dict(_delete_=True, type='AdamW', lr=2e-3, weight_decay=0.01, fused=True))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=30),
    dict(type='PolyLR', power=0.9, eta_min=0.0, begin=0, end=3, by_epoch=True, convert_to_iter_based=True),
]
