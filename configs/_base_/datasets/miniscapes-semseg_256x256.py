# MiniScapes with the labels of one task.
_base_ = ['miniscapes_256x256.py']
train_dataloader = dict(dataset=dict(tasks=['semseg']))
val_dataloader = dict(dataset=dict(tasks=['semseg']))
test_dataloader = dict(dataset=dict(tasks=['semseg']))
val_evaluator = dict(tasks=['semseg'])
