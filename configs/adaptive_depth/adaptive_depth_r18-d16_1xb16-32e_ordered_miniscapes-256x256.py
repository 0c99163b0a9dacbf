# Adaptive depth with bins ordered from far to near, as cells that cover the whole range.
# python tools/train.py configs/adaptive_depth/adaptive_depth_r18-d16_1xb16-32e_ordered_miniscapes-256x256.py
_base_ = ['adaptive_depth_r18-d16_1xb16-32e_miniscapes-256x256.py']
model = dict(decode_head=dict(head=dict(bin_order='ordered')))
