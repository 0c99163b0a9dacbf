# Adaptive depth of 2025 with the encoder's latents, 512 channels in the blocks, then projected to 256.
# python tools/train.py configs/adaptive_depth/adaptive_depth_r18-d16_1xb16-32e_course2025-width512-pretrained_miniscapes-256x256.py
_base_ = ['adaptive_depth_r18-d16_1xb16-32e_course2025-pretrained_miniscapes-256x256.py']
model = dict(decode_head=dict(head=dict(latents='encoder', token_channels=512)))
