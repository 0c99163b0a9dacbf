# Adaptive depth that compares pixels and bins at stride 4: finer, and a sixth slower to train.
# python tools/train.py configs/adaptive_depth/adaptive_depth_r18-d16_1xb16-32e_stride4_miniscapes-256x256.py
_base_ = ['adaptive_depth_r18-d16_1xb16-32e_miniscapes-256x256.py']
model = dict(decode_head=dict(head=dict(query_stride=1)))
