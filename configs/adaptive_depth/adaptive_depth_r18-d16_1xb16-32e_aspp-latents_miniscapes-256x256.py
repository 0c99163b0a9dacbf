# Adaptive depth with the bins' latents from ASPP features, six blocks with eight heads.
# python tools/train.py configs/adaptive_depth/adaptive_depth_r18-d16_1xb16-32e_aspp-latents_miniscapes-256x256.py
_base_ = ['adaptive_depth_r18-d16_1xb16-32e_miniscapes-256x256.py']
model = dict(decode_head=dict(head=dict(latents='aspp', num_layers=6, num_heads=8, head=dict(rates=(3, 6, 9)))))
