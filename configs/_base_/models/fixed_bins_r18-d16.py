# Depth alone, as the expectation over 256 fixed bins from 4 to 300 m; the decoder starts from the encoder's features.
_base_ = ['deeplabv3plus-depth_r18-d16.py']
model = dict(
    decode_head=dict(
        head=dict(
            _delete_=True,
            type='FixedBinsDepthHead',
            num_bins=256,
            depth_range=(4.0, 300.0),
            spacing='log',
            head=dict(type='DeepLabV3PlusHead', rates=None, skip_channels=64, num_convs=3),
        )
    ),
    tasks=dict(depth=dict(representation='metres')),
)
