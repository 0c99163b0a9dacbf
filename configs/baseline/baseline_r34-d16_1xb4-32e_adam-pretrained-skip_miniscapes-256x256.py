# Baseline from ImageNet weights with dilation and a decoder with a skip, without ASPP.
# python tools/train.py configs/baseline/baseline_r34-d16_1xb4-32e_adam-pretrained-skip_miniscapes-256x256.py
_base_ = ['baseline_r34-d16_1xb4-32e_adam-pretrained_miniscapes-256x256.py']
model = dict(decode_head=dict(head=dict(_delete_=True, type='DeepLabV3PlusHead', rates=None)))
