# Three epochs (600 iterations) of batch 4 on 800 generated scenes of 128x256, 128x128 crops, a validation after each: minutes on
# two cores. For the real data set give `--data-root`, and the budget that it deserves in `options`.
options = {
    'optim_wrapper.optimizer.lr': 5e-4,
    'train_cfg.max_epochs': 3,
    'param_scheduler.0.end': 3,
    'train_dataloader.batch_size': 4,
    'train_dataloader.dataset.pipeline.1.crop_size': 128,
    'val_dataloader.batch_size': 4,
}
data = dict(train=800, val=100, test=0, size=[128, 256], seed=0)
amp = True
seeds = [0]
