# AdamW 1e-4 with weight decay 0.01; linear warm-up over 500 iterations times polynomial decay with power 0.9 over 32 epochs.
optim_wrapper = dict(type='OptimWrapper', optimizer=dict(type='AdamW', lr=1e-4, weight_decay=0.01))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=500),
    dict(type='PolyLR', power=0.9, eta_min=0.0, begin=0, end=32, by_epoch=True, convert_to_iter_based=True),
]
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=32, val_interval=1)
val_cfg = dict(type='InferenceValLoop')
test_cfg = dict(type='InferenceTestLoop')
