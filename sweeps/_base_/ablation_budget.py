# Three epochs (600 iterations) of batch 4 on 800 generated scenes of 128x256, 128x128 crops, Adam 5e-4, validated at the end.
data = dict(train=800, val=100, test=0, size=[128, 256], seed=0)
seeds = [0, 1, 2]
amp = True
options = {
    'optim_wrapper.optimizer.lr': 5e-4,
    'train_cfg.max_epochs': 3,
    'train_cfg.val_interval': 3,
    'param_scheduler.0.end': 3,
    'param_scheduler.0.convert_to_iter_based': True,
    'train_dataloader.batch_size': 4,
    'train_dataloader.dataset.pipeline.1.crop_size': 128,
    'val_dataloader.batch_size': 4,
}
