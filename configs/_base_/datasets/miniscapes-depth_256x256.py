# MiniScapes with the labels of one task.
_base_ = ['miniscapes_256x256.py']
train_dataloader = dict(dataset=dict(tasks=['depth']))
val_dataloader = dict(dataset=dict(tasks=['depth']))
test_dataloader = dict(dataset=dict(tasks=['depth']))
val_evaluator = dict(tasks=['depth'])
