# Self-attention between pooled ASPP features for both tasks: a transformer segmentation head and an adaptive depth head.
_base_ = ['joint_r18-d16.py']
model = dict(
    decode_head=dict(
        _delete_=True,
        type='BranchedHead',
        head=dict(type='TransformerSegHead', num_tokens=256, num_layers=3, num_heads=4, expansion=4, dropout=0.0),
        task_heads=dict(
            depth=dict(
                type='AdaptiveDepthHead',
                num_bins=256,
                latents='aspp',
                num_layers=3,
                num_heads=4,
                expansion=4,
                dropout=0.0,
                depth_range=(4.0, 300.0),
                head=dict(type='DeepLabV3PlusHead', rates=(3, 6, 9), skip_channels=48, num_convs=2),
            )
        ),
    ),
    tasks=dict(depth=dict(representation='metres')),
)
