# Baseline from ImageNet weights with dilation and ASPP (DeepLabV3, arXiv 1706.05587).
# python tools/train.py configs/baseline/baseline_r34-d16_1xb4-32e_adam-pretrained-aspp_miniscapes-256x256.py
_base_ = ['baseline_r34-d16_1xb4-32e_adam-pretrained_miniscapes-256x256.py']
model = dict(decode_head=dict(head=dict(_delete_=True, type='ASPPHead', rates=(3, 6, 9))))
