# Ways of task balancing against a network per task, two tasks. Results and what they say: docs/task_balancing.
# python tools/sweep.py sweeps/task_balancing.py --jobs 2
_base_ = ['_base_/ablation_budget.py']
about = 'Strategies of task balancing for two tasks on generated scenes, every row with the same data, seeds and budget.'
data = dict(train=640)
options = {
    'train_dataloader.batch_size': 8,
    'env_cfg.cudnn_benchmark': False,
    'default_hooks.checkpoint.interval': 3,
}
config = 'configs/joint/joint_r18-d16_1xb16-32e_miniscapes-256x256.py'
# The network of a task is the same network with this task alone, and its loss is the total.
_alone = dict(_delete_=True, type='FixedWeights')
_semseg = dict(type='SemSegTask', num_classes=19)
_depth = dict(type='DepthTask', representation='exp', depth_range=[0.1, 300.0], loss=dict(type='SILogLoss'))
single_tasks = dict(semseg='semseg alone', depth='depth alone')
rows = {
    'semseg alone': dict(options={'model.tasks': dict(_delete_=True, semseg=_semseg), 'model.task_balancing': _alone}),
    'depth alone': dict(options={'model.tasks': dict(_delete_=True, depth=_depth), 'model.task_balancing': _alone}),
    'equal weights': dict(task_balancing='configs/_base_/task_balancing/equal.py'),
    'uncertainty': dict(task_balancing='configs/_base_/task_balancing/uncertainty.py'),
    'dynamic weight average': dict(task_balancing=dict(type='DynamicWeightAverage', temperature=2.0, interval=40)),
    'random weights': dict(task_balancing='configs/_base_/task_balancing/random_weights.py'),
    'geometric mean': dict(task_balancing='configs/_base_/task_balancing/geometric.py'),
    'IMTL-L': dict(task_balancing='configs/_base_/task_balancing/imtl_l.py'),
    'GradNorm': dict(task_balancing='configs/_base_/task_balancing/gradnorm.py'),
    'MGDA-UB': dict(task_balancing='configs/_base_/task_balancing/mgda_ub.py'),
    'PCGrad': dict(task_balancing='configs/_base_/task_balancing/pcgrad.py'),
    'CAGrad': dict(task_balancing='configs/_base_/task_balancing/cagrad.py'),
    'Nash-MTL': dict(task_balancing='configs/_base_/task_balancing/nash_mtl.py'),
    'UPGrad on features': dict(task_balancing='configs/_base_/task_balancing/upgrad_features.py'),
}
