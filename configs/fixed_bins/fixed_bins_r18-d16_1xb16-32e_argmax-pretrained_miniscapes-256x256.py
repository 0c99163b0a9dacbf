# Fixed bins, ResNet-18 from ImageNet weights; predictions take the most likely bin instead of the weighted sum.
# python tools/train.py configs/fixed_bins/fixed_bins_r18-d16_1xb16-32e_argmax-pretrained_miniscapes-256x256.py
_base_ = ['fixed_bins_r18-d16_1xb16-32e_pretrained_miniscapes-256x256.py']
model = dict(decode_head=dict(head=dict(decoding='argmax')))
