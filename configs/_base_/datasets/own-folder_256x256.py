# A folder with a dataset.json and its training recipe, which includes the schedule. `mtl train --data` sets the sizes.
_base_ = ['miniscapes_256x256.py']

# The recipe.
crop_size = (256, 256)
scale = (0.75, 1.5)
flip_prob = 0.5
batch_size = 8
epochs = 40
warmup_iters = 50
lr = 1e-3
weight_decay = 0.01

pipeline = [
    dict(type='LoadMiniScapes'),
    dict(type='RandomHomography', crop_size=crop_size, scale=scale, flip_prob=flip_prob, rescale_depth=True),
    dict(type='PackMultiTaskInputs', meta_keys=()),
]
train_dataloader = dict(batch_size=batch_size, dataset=dict(data_root='data/own-folder', pipeline=pipeline))
val_dataloader = dict(dataset=dict(data_root='data/own-folder'))
test_dataloader = dict(dataset=dict(data_root='data/own-folder'))
optim_wrapper = dict(type='OptimWrapper', optimizer=dict(type='AdamW', lr=lr, weight_decay=weight_decay, fused=True))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=warmup_iters),
    dict(type='PolyLR', power=0.9, eta_min=0.0, begin=0, end=epochs, by_epoch=True, convert_to_iter_based=True),
]
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=epochs, val_interval=1)
val_cfg = dict(type='InferenceValLoop')
test_cfg = dict(type='InferenceTestLoop')
