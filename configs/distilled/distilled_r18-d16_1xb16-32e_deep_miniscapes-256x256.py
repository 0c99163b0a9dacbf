# Distilled, with second decoders of three convolutions and two upsamplings.
# python tools/train.py configs/distilled/distilled_r18-d16_1xb16-32e_deep_miniscapes-256x256.py
_base_ = ['distilled_r18-d16_1xb16-32e_miniscapes-256x256.py']
model = dict(decode_head=dict(final_decoder='deep'))
