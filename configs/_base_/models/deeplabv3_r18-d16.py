# DeepLabV3: ASPP without decoder, for the background and five classes.
_base_ = ['deeplabv3plus-semseg_r18-d16.py']
model = dict(
    decode_head=dict(head=dict(_delete_=True, type='ASPPHead', rates=(3, 6, 9))),
)
