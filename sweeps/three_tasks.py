# Ways of task balancing against a network per task, three tasks. Results and what they say: docs/task_balancing.
# python tools/sweep.py sweeps/three_tasks.py --jobs 2
_base_ = ['task_balancing.py']
about = 'Strategies of task balancing for three tasks on generated scenes, every row with the same data, seeds and budget.'
data = dict(labels=['semseg', 'depth', 'normals'])
config = 'configs/joint/joint_r18-d16_1xb16-32e_normals_miniscapes-256x256.py'
_alone = dict(_delete_=True, type='FixedWeights')
_normals = dict(type='NormalsTask')
single_tasks = dict(normals='normals alone')
rows = {
    'normals alone': dict(options={'model.tasks': dict(_delete_=True, normals=_normals), 'model.task_balancing': _alone}),
}
