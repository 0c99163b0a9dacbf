# A decoder per task: classes, depth, surface normals. Data: `mtl data make OUT --labels ...`.
# python tools/train.py configs/branched/branched_r18-d16_1xb16-32e_normals_miniscapes-256x256.py
_base_ = ['branched_r18-d16_1xb16-32e_miniscapes-256x256.py']
model = dict(
    tasks=dict(normals=dict(type='NormalsTask')),
    task_balancing=dict(weights=dict(normals=0.5)),
)
