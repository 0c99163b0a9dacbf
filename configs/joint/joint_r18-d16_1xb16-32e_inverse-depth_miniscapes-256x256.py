# Joint DeepLabV3+ with normalised 1/depth and an L1 loss; statistics of 300 generated scenes: recompute them for other data.
# python tools/train.py configs/joint/joint_r18-d16_1xb16-32e_inverse-depth_miniscapes-256x256.py
_base_ = ['joint_r18-d16_1xb16-32e_miniscapes-256x256.py']
model = dict(
    tasks=dict(
        depth=dict(
            representation='inverse',
            statistics=dict(mean=0.084502, std=0.058062),
            loss=dict(_delete_=True, type='DepthRegressionLoss', norm='l1'),
        )
    )
)
