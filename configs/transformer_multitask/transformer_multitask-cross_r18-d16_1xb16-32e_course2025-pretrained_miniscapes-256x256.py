# Cross-attention as in a report of 2025: class tokens compared with the decoder's features directly, unscaled similarity.
# python tools/train.py configs/transformer_multitask/transformer_multitask-cross_r18-d16_1xb16-32e_course2025-pretrained_miniscapes-256x256.py
_base_ = ['transformer_multitask-cross_r18-d16_1xb16-32e_pretrained_miniscapes-256x256.py']
classes = dict(query_conv=False, scale_similarity=False, head=dict(skip_channels=64, num_convs=3))
bins = dict(bin_order='direct', depth_range=(0.1, 300.0), scale_similarity=False)
model = dict(decode_head=dict(head=classes, task_heads=dict(depth=bins)))
