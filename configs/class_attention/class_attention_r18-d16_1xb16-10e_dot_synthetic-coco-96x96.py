# Class attention with the unscaled dot product.
# python tools/train.py configs/class_attention/class_attention_r18-d16_1xb16-10e_dot_synthetic-coco-96x96.py
_base_ = ['class_attention_r18-d16_1xb16-10e_synthetic-coco-96x96.py']
model = dict(decode_head=dict(attention='dot'))
