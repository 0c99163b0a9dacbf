# The model of `make demo`: separable, with class weights, six epochs in the processor time of three of the dense one.
# python tools/train.py configs/quickstart/joint_tf-efficientnet-lite0-d16_1xb4-6e_separable-pretrained_synthetic-128x256.py
_base_ = ['joint_tf-efficientnet-lite0-d16_1xb4-3e_separable-pretrained_synthetic-128x256.py']
# From `mtl data statistics` on the demo's training split.
class_weight = [0.62, 1.3, 0.84, 2.01, 2.01, 1.85, 2.11, 2.04, 0.98, 1.75, 1.06, 1.9, 2.09, 1.1, 2.0, 2.0, 1.92, 2.09, 2.08]
model = dict(tasks=dict(semseg=dict(loss=dict(type='UpsampledCrossEntropyLoss', class_weight=class_weight))))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=30),
    dict(type='PolyLR', power=0.9, eta_min=0.0, begin=0, end=6, by_epoch=True, convert_to_iter_based=True),
]
train_cfg = dict(max_epochs=6)
