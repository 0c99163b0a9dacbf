# Class tokens that attend to the decoder's features, and an adaptive depth head on the encoder's.
_base_ = ['joint_r18-d16.py']
model = dict(
    decode_head=dict(
        _delete_=True,
        type='BranchedHead',
        head=dict(
            type='ClassTokenSegHead',
            num_layers=3,
            num_heads=4,
            expansion=4,
            dropout=0.0,
            head=dict(type='DeepLabV3PlusHead', rates=(3, 6, 9), skip_channels=48, num_convs=2),
        ),
        task_heads=dict(
            depth=dict(
                type='AdaptiveDepthHead',
                num_bins=256,
                latents='encoder',
                channel_reducer='linear',
                num_layers=3,
                num_heads=4,
                expansion=4,
                dropout=0.0,
                depth_range=(4.0, 300.0),
                head=dict(type='DeepLabV3PlusHead', rates=None, skip_channels=64, num_convs=3),
            )
        ),
    ),
    tasks=dict(depth=dict(representation='metres')),
)
