# Joint DeepLabV3+ (arXiv 1802.02611), ResNet-18, output stride 16, on Cityscapes (arXiv 1604.01685): classes, depth from stereo.
# python tools/train.py configs/joint/joint_r18-d16_1xb16-32e_cityscapes-512x512.py --data-root CITYSCAPES
_base_ = [
    '../_base_/models/joint_r18-d16.py',
    '../_base_/datasets/cityscapes_512x512.py',
    '../_base_/schedules/schedule_adam_32e.py',
    '../_base_/default_runtime.py',
]
# The labels of the test split are not public, and the benchmark needs other files than those in the archive.
submission = dict(enabled=False)
