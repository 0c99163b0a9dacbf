# Adaptive depth of 2025 with latents from their own ASPP, six blocks with eight heads; the decoder starts from the encoder.
# python tools/train.py configs/adaptive_depth/adaptive_depth_r18-d16_1xb16-32e_course2025-aspp-latents-pretrained_miniscapes-256x256.py
_base_ = ['adaptive_depth_r18-d16_1xb16-32e_course2025-pretrained_miniscapes-256x256.py']
model = dict(decode_head=dict(head=dict(latents='aspp', num_layers=6, num_heads=8)))
