# Baseline for depth alone with Adam 1e-4 instead of SGD 0.01.
# python tools/train.py configs/baseline/baseline-depth_r18-d32_1xb16-16e_adam_miniscapes-256x256.py
_base_ = ['baseline-depth_r18-d32_1xb16-16e_miniscapes-256x256.py']
optim_wrapper = dict(optimizer=dict(_delete_=True, type='Adam', lr=1e-4))
