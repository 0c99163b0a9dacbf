# The joint model with one task: DeepLabV3+ for segmentation alone.
_base_ = ['joint_r18-d16.py']
model = dict(
    tasks=dict(
        _delete_=True,
        semseg=dict(type='SemSegTask'),
    ),
    task_balancing=dict(weights=dict(_delete_=True, semseg=1.0)),
)
