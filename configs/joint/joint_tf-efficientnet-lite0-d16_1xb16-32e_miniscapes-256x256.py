# Joint DeepLabV3+ on EfficientNet-Lite0 (arXiv 1905.11946, without squeeze-and-excitation) at output stride 16, random weights.
# python tools/train.py configs/joint/joint_tf-efficientnet-lite0-d16_1xb16-32e_miniscapes-256x256.py
_base_ = ['joint_r18-d16_1xb16-32e_miniscapes-256x256.py']
model = dict(
    data_preprocessor=dict(mean=[127.0, 127.0, 127.0], std=[128.0, 128.0, 128.0]),
    backbone=dict(_delete_=True, type='TimmBackbone', name='tf_efficientnet_lite0', output_stride=16),
)
