# Joint DeepLabV3+ on ResNet-18, random weights, for your own folder: the choice of `mtl train --data` without ImageNet weights.
# python tools/train.py configs/joint/joint_r18-d16_1xb8-40e_own-folder-256x256.py
_base_ = [
    '../_base_/models/joint_r18-d16.py',
    '../_base_/datasets/own-folder_256x256.py',
    '../_base_/default_runtime.py',
]
submission = dict(enabled=False)
