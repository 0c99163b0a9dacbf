# Self-attention as in a report of 2025: depth decoded from the encoder's features, with latents from their own ASPP.
# python tools/train.py configs/transformer_multitask/transformer_multitask-self_r18-d16_1xb16-32e_course2025-pretrained_miniscapes-256x256.py
_base_ = ['transformer_multitask-self_r18-d16_1xb16-32e_pretrained_miniscapes-256x256.py']
decoder = dict(rates=None, skip_channels=64, num_convs=3)
bins = dict(bin_order='direct', depth_range=(0.1, 300.0), scale_similarity=False, head=decoder)
model = dict(decode_head=dict(head=dict(skip_channels=64, num_convs=3), task_heads=dict(depth=bins)))
