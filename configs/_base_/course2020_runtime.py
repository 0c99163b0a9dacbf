# Data and runtime of 2020: batch 4, and the best checkpoint is in the archive.
_base_ = ['datasets/miniscapes_256x256.py', 'default_runtime.py']
train_dataloader = dict(batch_size=4)
submission = dict(include_checkpoint=True)
