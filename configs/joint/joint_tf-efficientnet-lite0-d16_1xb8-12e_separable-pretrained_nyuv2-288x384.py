# The joint model for 13 classes and depth of NYU Depth V2 at 288x384, the size of MTAN's arrays, with larger crops.
# python tools/train.py configs/joint/joint_tf-efficientnet-lite0-d16_1xb8-12e_separable-pretrained_nyuv2-288x384.py
_base_ = ['joint_tf-efficientnet-lite0-d16_1xb8-12e_separable-pretrained_nyuv2-240x320.py']
pipeline = [
    dict(type='LoadLabelledImage'),
    dict(type='torchvision.ColorJitter', **_base_.jitter),
    dict(type='RandomHomography', crop_size=(272, 352), scale=_base_.scale, flip_prob=_base_.flip_prob, rescale_depth=True),
    dict(type='PackMultiTaskInputs', meta_keys=()),
]
train_dataloader = dict(dataset=dict(data_root='data/nyuv2-288x384', pipeline=pipeline))
val_dataloader = dict(dataset=dict(data_root='data/nyuv2-288x384'))
test_dataloader = dict(dataset=dict(data_root='data/nyuv2-288x384'))
