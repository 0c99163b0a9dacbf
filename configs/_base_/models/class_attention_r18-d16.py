# DeepLabV3 on features that a class attends to; one binary mask per class.
_base_ = ['deeplabv3_r18-d16.py']
model = dict(
    type='ClassConditionalSegmentor',
    decode_head=dict(
        _delete_=True,
        type='ClassAttentionHead',
        attention='scaled_dot',
        channels=256,
        head=dict(type='ASPPHead', rates=(3, 6, 9)),
    ),
    tasks=dict(semseg=dict(_delete_=True, type='ClassMaskTask', threshold=0.5)),
)
