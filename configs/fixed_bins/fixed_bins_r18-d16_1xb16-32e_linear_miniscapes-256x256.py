# Depth as the expectation over 256 fixed bins, equally spaced from 4 to 300 m.
# python tools/train.py configs/fixed_bins/fixed_bins_r18-d16_1xb16-32e_linear_miniscapes-256x256.py
_base_ = ['fixed_bins_r18-d16_1xb16-32e_miniscapes-256x256.py']
model = dict(decode_head=dict(head=dict(spacing='linear')))
