# Distilled with a complete DeepLabV3+ decoder, including the skip, as the second decoder of each task.
# python tools/train.py configs/distilled/distilled_r18-d16_1xb16-32e_full_miniscapes-256x256.py
_base_ = ['distilled_r18-d16_1xb16-32e_miniscapes-256x256.py']
model = dict(decode_head=dict(final_decoder=dict(_delete_=True, type='DeepLabV3PlusHead', rates=None)))
