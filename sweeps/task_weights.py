# The weight of segmentation in the loss, the rest being that of depth: twelve values between 0.05 and 0.95.
# python tools/sweep.py sweeps/task_weights.py
_base_ = ['_base_/short_budget.py']
about = 'Task weights of the joint model'
config = 'configs/joint/joint_r18-d16_1xb16-32e_miniscapes-256x256.py'
_weights = 'model.task_balancing.weights'
space = {
    'semseg weight': {
        weight: {f'{_weights}.semseg': weight, f'{_weights}.depth': round(1 - weight, 2)}
        for weight in (0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.95)
    }
}
pruner = dict(type='MedianPruner', n_startup_trials=4)
