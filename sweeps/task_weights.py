# The weight of segmentation in the loss, the rest being that of depth: twelve values between 0.05 and 0.95.
# python tools/sweep.py sweeps/task_weights.py
_base_ = ['_base_/short_budget.py']
about = 'Task weights of the joint model'
config = 'configs/joint/joint_r18-d16_1xb16-32e_miniscapes-256x256.py'
space = {'semseg weight': dict(low=0.05, high=0.95, function='semseg_weight')}
sampler = dict(type='TPESampler', seed=0)
trials = 12
pruner = dict(type='MedianPruner', n_startup_trials=4)
