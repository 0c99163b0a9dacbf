# Optimizer and learning rate from 1e-1 to 1e-6, every pair. A pair whose loss becomes infinite is recorded as such.
# python tools/sweep.py sweeps/optimizer_lr.py
_base_ = ['_base_/short_budget.py']
about = 'Optimizers and learning rates of the joint model'
config = 'configs/joint/joint_r18-d16_1xb16-32e_miniscapes-256x256.py'
space = {
    'optimizer': {
        'SGD': {'optim_wrapper.optimizer': dict(_delete_=True, type='SGD', lr=0.01, momentum=0.9)},
        'Adam': {'optim_wrapper.optimizer': dict(_delete_=True, type='Adam', lr=1e-4)},
        'AdamW': {'optim_wrapper.optimizer': dict(_delete_=True, type='AdamW', lr=1e-4, weight_decay=0.01)},
    },
    'optim_wrapper.optimizer.lr': [1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6],
}
