# SegFormer-B0 (arXiv 2105.15203) for both tasks: encoder and head of mmseg, from random weights.
# python tools/train.py configs/joint/joint_mit-b0-d32_1xb16-32e_segformer_miniscapes-256x256.py
_base_ = ['joint_r18-d16_1xb16-32e_miniscapes-256x256.py']
model = dict(
    data_preprocessor=dict(size_divisor=32),
    backbone=dict(
        _delete_=True,
        type='mmseg.MixVisionTransformer',
        embed_dims=32,
        num_layers=[2, 2, 2, 2],
        num_heads=[1, 2, 5, 8],
        drop_path_rate=0.1,
    ),
    fast_depthwise=True,
    decode_head=dict(head=dict(_delete_=True, type='mmseg.SegformerHead', channels=256)),
)
