# Distilled, with 3x3 instead of 1x1 convolutions in the gates.
# python tools/train.py configs/distilled/distilled_r18-d16_1xb16-32e_3x3-gates_miniscapes-256x256.py
_base_ = ['distilled_r18-d16_1xb16-32e_miniscapes-256x256.py']
model = dict(decode_head=dict(gate_kernel_size=3))
