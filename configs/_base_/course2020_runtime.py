# Data and runtime of the course of 2020: batch 4, and an archive with the best checkpoint.
_base_ = ['datasets/miniscapes_256x256.py', 'default_runtime.py']
train_dataloader = dict(batch_size=4)
submission = dict(include_checkpoint=True)
