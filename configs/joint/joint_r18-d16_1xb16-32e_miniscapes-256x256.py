# Joint DeepLabV3+ (arXiv 1802.02611), ResNet-18, output stride 16: everything shared but the last 1x1 convolution.
# python tools/train.py configs/joint/joint_r18-d16_1xb16-32e_miniscapes-256x256.py
_base_ = [
    '../_base_/models/joint_r18-d16.py',
    '../_base_/datasets/miniscapes_256x256.py',
    '../_base_/schedules/schedule_adam_32e.py',
    '../_base_/default_runtime.py',
]
