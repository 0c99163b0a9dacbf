# The joint model with one task: DeepLabV3+ for depth alone.
_base_ = ['joint_r18-d16.py']
model = dict(
    tasks=dict(
        _delete_=True,
        depth=dict(type='DepthTask', representation='exp', depth_range=(0.1, 300.0), loss=dict(type='SILogLoss')),
    ),
    task_balancing=dict(weights=dict(_delete_=True, depth=1.0)),
)
