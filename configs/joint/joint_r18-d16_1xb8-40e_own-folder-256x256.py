# Joint DeepLabV3+ on ResNet-18, random weights, for your own folder: the choice of `mtl train --data` without ImageNet weights.
# python tools/train.py configs/joint/joint_r18-d16_1xb8-40e_own-folder-256x256.py
_base_ = [
    '../_base_/models/joint_r18-d16.py',
    '../_base_/datasets/own-folder_256x256.py',
    '../_base_/default_runtime.py',
]
# Tasks without a label in the folder's dataset.json are left out.
model = dict(
    tasks=dict(normals=dict(type='NormalsTask')),
    task_balancing=dict(weights=dict(normals=0.5)),
)
tta_model = dict(scale_compensation=True)
submission = dict(enabled=False)
