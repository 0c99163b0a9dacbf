# Class attention that training asks for an absent class half of the time.
# python tools/train.py configs/class_attention/class_attention_r18-d16_1xb16-10e_absent_synthetic-coco-96x96.py
_base_ = ['class_attention_r18-d16_1xb16-10e_synthetic-coco-96x96.py']
model = dict(tasks=dict(semseg=dict(absent_prob=0.5)))
