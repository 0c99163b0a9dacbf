# Depth alone, as the expectation over 256 bins predicted from the image: a 16x16 grid of latents, three transformer blocks.
_base_ = ['deeplabv3plus-depth_r18-d16.py']
model = dict(
    decode_head=dict(
        head=dict(
            _delete_=True,
            type='AdaptiveDepthHead',
            num_bins=256,
            latents='decoder',
            channel_reducer='none',
            num_layers=3,
            num_heads=4,
            expansion=4,
            dropout=0.0,
            positional_embedding='none',
            position_added_to='query',
            depth_range=(4.0, 300.0),
            spacing='log',
            bin_order='free',
            query_stride=2,
            head=dict(type='DeepLabV3PlusHead', rates=None, skip_channels=64, num_convs=3),
        )
    ),
    tasks=dict(depth=dict(representation='metres')),
)
