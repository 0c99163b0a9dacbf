# Two short trainings for a first report, minutes on two cores: `make report`.
# python tools/sweep.py sweeps/quick.py --jobs 2
_base_ = ['_base_/ablation_budget.py']
about = 'Two short trainings for a first report: minutes on two cores.'
data = dict(train=240, val=40)
seeds = [0]
options = {'train_cfg.val_interval': 1, 'default_hooks.logger.interval': 10}
rows = {
    'joint': dict(config='configs/joint/joint_r18-d16_1xb16-32e_miniscapes-256x256.py'),
    'branched': dict(config='configs/branched/branched_r18-d16_1xb16-32e_miniscapes-256x256.py'),
}
