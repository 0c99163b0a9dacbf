# Joint DeepLabV3+ with squeeze-and-excitation (arXiv 1709.01507) in encoder, ASPP and decoder.
# python tools/train.py configs/joint/joint_r18-d16_1xb16-32e_se-encoder-aspp_miniscapes-256x256.py
_base_ = ['joint_r18-d16_1xb16-32e_se_miniscapes-256x256.py']
model = dict(backbone=dict(squeeze_excitation=16), decode_head=dict(head=dict(aspp_squeeze_excitation=16)))
