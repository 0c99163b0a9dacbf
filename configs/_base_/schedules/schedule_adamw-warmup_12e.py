# AdamW 1e-3 with weight decay 0.01; linear warm-up over 50 iterations times polynomial decay with power 0.9 over 12 epochs.
optim_wrapper = dict(type='OptimWrapper', optimizer=dict(type='AdamW', lr=1e-3, weight_decay=0.01, fused=True))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=50),
    dict(type='PolyLR', power=0.9, eta_min=0.0, begin=0, end=12, by_epoch=True, convert_to_iter_based=True),
]
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=12, val_interval=1)
val_cfg = dict(type='InferenceValLoop', dtype='bfloat16')
test_cfg = dict(type='InferenceTestLoop')
