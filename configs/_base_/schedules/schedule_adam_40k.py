# Adam 1e-4 and polynomial decay with power 0.9, over 40,000 iterations, validating every 2,000.
optim_wrapper = dict(type='OptimWrapper', optimizer=dict(type='Adam', lr=1e-4))
param_scheduler = [dict(type='PolyLR', power=0.9, eta_min=0.0, begin=0, end=40000, by_epoch=False)]
train_cfg = dict(type='IterBasedTrainLoop', max_iters=40000, val_interval=2000)
val_cfg = dict(type='InferenceValLoop')
test_cfg = dict(type='InferenceTestLoop')
