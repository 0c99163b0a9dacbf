# DeepLabV3+ as in a report of 2020: the raw skip, one 3x3 convolution as the predictor, depth in normalised metres.
_base_ = ['joint_r18-d16.py']
model = dict(
    backbone=dict(depth=34, zero_init_residual=True),
    decode_head=dict(head=dict(skip_channels=None, num_convs=0, pooled_relu=False, fuse_norm=True)),
    tasks=dict(
        depth=dict(
            representation='normalised',
            statistics=dict(mean=27.0727, std=29.1264),
            depth_range=(4.0, 300.0),
            loss=dict(_delete_=True, type='DepthRegressionLoss', norm='l2', reduction='image'),
        )
    ),
)
