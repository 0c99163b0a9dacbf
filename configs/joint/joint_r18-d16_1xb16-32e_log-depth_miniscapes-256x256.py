# Joint DeepLabV3+ with normalised log-depth and an L1 loss; statistics of 300 generated scenes: recompute them for other data.
# python tools/train.py configs/joint/joint_r18-d16_1xb16-32e_log-depth_miniscapes-256x256.py
_base_ = ['joint_r18-d16_1xb16-32e_miniscapes-256x256.py']
model = dict(
    tasks=dict(
        depth=dict(
            representation='log',
            statistics=dict(mean=2.771839, std=0.853999),
            loss=dict(_delete_=True, type='DepthRegressionLoss', norm='l1'),
        )
    )
)
