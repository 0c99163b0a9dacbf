# Two, three and four tasks. Results and what they say: docs/ablation, "Two to four tasks".
# python tools/sweep.py sweeps/tasks.py --jobs 2
_base_ = ['_base_/ablation_budget.py']
about = 'Three and four tasks on generated scenes, every row with the same data, seeds and budget.'
data = dict(labels=['semseg', 'depth', 'normals', 'boundary'])
baseline = True
_three, _four = 'r18-d16_1xb16-32e_normals_miniscapes-256x256.py', 'r18-d16_1xb16-32e_normals-boundary_miniscapes-256x256.py'
rows = {
    'joint, two tasks': dict(config='configs/joint/joint_r18-d16_1xb16-32e_miniscapes-256x256.py', seeds=[0]),
    'joint, three tasks': dict(config=f'configs/joint/joint_{_three}'),
    'joint, four tasks': dict(config=f'configs/joint/joint_{_four}'),
    'branched, three tasks': dict(config=f'configs/branched/branched_{_three}', seeds=[0]),
    'branched, four tasks': dict(config=f'configs/branched/branched_{_four}', seeds=[0]),
    'distilled, three tasks': dict(config=f'configs/distilled/distilled_{_three}', seeds=[0]),
    'distilled, four tasks': dict(config=f'configs/distilled/distilled_{_four}', seeds=[0]),
}
