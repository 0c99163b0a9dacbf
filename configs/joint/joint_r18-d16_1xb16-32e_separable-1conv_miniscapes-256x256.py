# Joint separable DeepLabV3+ with one convolution in the decoder, as in segmentation-models-pytorch at stride 4.
# python tools/train.py configs/joint/joint_r18-d16_1xb16-32e_separable-1conv_miniscapes-256x256.py
_base_ = ['joint_r18-d16_1xb16-32e_separable_miniscapes-256x256.py']
model = dict(decode_head=dict(head=dict(num_convs=1)))
