# Joint DeepLabV3+ (arXiv 1802.02611), ResNet-34, output stride 16, batch 4: the setting of a 2020 course.
# python tools/train.py configs/joint/joint_r34-d16_1xb4-64e_miniscapes-256x256.py
_base_ = [
    '../_base_/models/joint_r18-d16.py',
    '../_base_/datasets/miniscapes_256x256.py',
    '../_base_/schedules/schedule_adam_64e.py',
    '../_base_/default_runtime.py',
]
model = dict(backbone=dict(depth=34))
train_dataloader = dict(batch_size=4)
