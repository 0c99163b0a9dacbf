# Distilled of 2020 with second decoders of three convolutions.
# python tools/train.py configs/distilled/distilled_r34-d16_1xb4-64e_course2020-deep-pretrained_miniscapes-256x256.py
_base_ = ['distilled_r34-d16_1xb4-64e_course2020-pretrained_miniscapes-256x256.py']
model = dict(decode_head=dict(final_decoder='deep'))
