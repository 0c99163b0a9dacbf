# Distilled: classes, depth, surface normals, semantic boundaries. Data: `mtl data make OUT --labels ...`.
# python tools/train.py configs/distilled/distilled_r18-d16_1xb16-32e_normals-boundary_miniscapes-256x256.py
_base_ = ['distilled_r18-d16_1xb16-32e_miniscapes-256x256.py']
model = dict(
    tasks=dict(normals=dict(type='NormalsTask'), boundary=dict(type='BoundaryTask')),
    task_balancing=dict(weights=dict(normals=0.5, boundary=0.5)),
)
