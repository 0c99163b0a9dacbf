# Batch size, with epochs in proportion: 800 steps, as 16 epochs of batch 16 are; 768 with 48 and 64, without the partial batches.
# python tools/sweep.py sweeps/batch_size.py
_base_ = ['_base_/short_budget.py']
about = 'Batch size of the joint model, the number of steps kept'
config = 'configs/joint/joint_r18-d16_1xb16-32e_miniscapes-256x256.py'
space = {
    'batch size': {
        size: {
            'train_dataloader.batch_size': size,
            'train_cfg.max_epochs': size,
            'train_cfg.val_interval': max(1, size // 16),
            'param_scheduler.0.end': size,
        }
        for size in (2, 4, 8, 16, 32, 48, 64)
    }
}
