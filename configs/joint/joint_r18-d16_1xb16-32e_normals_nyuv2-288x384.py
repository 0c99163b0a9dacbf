# Joint DeepLabV3+ (arXiv 1802.02611), ResNet-18, output stride 16, on NYU Depth V2: 13 classes, depth, surface normals.
# python tools/train.py configs/joint/joint_r18-d16_1xb16-32e_normals_nyuv2-288x384.py --data-root NYUV2
_base_ = [
    '../_base_/models/joint_r18-d16.py',
    '../_base_/datasets/nyuv2_288x384.py',
    '../_base_/schedules/schedule_adam_32e.py',
    '../_base_/default_runtime.py',
]
model = dict(
    tasks=dict(depth=dict(depth_range=(0.1, 10.0)), normals=dict(type='NormalsTask')),
    task_balancing=dict(weights=dict(normals=0.5)),
)
submission = dict(enabled=False)
