# Joint DeepLabV3+ with squeeze-and-excitation (arXiv 1709.01507) on the decoder features.
# python tools/train.py configs/joint/joint_r18-d16_1xb16-32e_se_miniscapes-256x256.py
_base_ = ['joint_r18-d16_1xb16-32e_miniscapes-256x256.py']
model = dict(decode_head=dict(head=dict(squeeze_excitation=16)))
