# Adaptive depth as in a report of 2025: a bin is the exponential of a projection, unscaled similarity at stride 4.
# python tools/train.py configs/adaptive_depth/adaptive_depth_r18-d16_1xb16-32e_course2025-pretrained_miniscapes-256x256.py
_base_ = ['adaptive_depth_r18-d16_1xb16-32e_pretrained_miniscapes-256x256.py']
model = dict(decode_head=dict(head=dict(bin_order='direct', depth_range=(0.1, 300.0), query_stride=1, scale_similarity=False)))
