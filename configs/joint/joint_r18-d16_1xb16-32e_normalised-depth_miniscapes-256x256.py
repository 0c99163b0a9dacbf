# Joint DeepLabV3+ with depth in normalised metres, mean and deviation of MiniScapes' training split, and an L1 loss.
# python tools/train.py configs/joint/joint_r18-d16_1xb16-32e_normalised-depth_miniscapes-256x256.py
_base_ = ['joint_r18-d16_1xb16-32e_miniscapes-256x256.py']
model = dict(
    tasks=dict(
        depth=dict(
            representation='normalised',
            statistics=dict(mean=27.0727, std=29.1264),
            loss=dict(_delete_=True, type='DepthRegressionLoss', norm='l1'),
        )
    )
)
