# Adaptive depth of 2025 with the encoder's latents, reduced to 256 channels by a linear layer.
# python tools/train.py configs/adaptive_depth/adaptive_depth_r18-d16_1xb16-32e_course2025-encoder-latents-pretrained_miniscapes-256x256.py
_base_ = ['adaptive_depth_r18-d16_1xb16-32e_course2025-pretrained_miniscapes-256x256.py']
model = dict(decode_head=dict(head=dict(latents='encoder', channel_reducer='linear')))
