# Recipes for the demo. Results and what they say: docs/recipe.
# python tools/sweep.py sweeps/recipe.py --jobs 2
about = 'Recipes for the demo: its model on its data, three epochs of 600 iterations unless a row says otherwise.'
data = dict(train=800, val=100, test=0, size=[128, 256], seed=0)
seeds = [0, 1, 2]
amp = True
options = {
    'train_cfg.val_interval': 3,
    'val_dataloader.batch_size': 4,
    'default_hooks.pictures.observed.interval': 0,
    'default_hooks.pictures.confusion.interval': 0,
    'default_hooks.histograms.interval': 0,
    'default_hooks.pictures.training.interval': 0,
}
config = 'configs/quickstart/joint_tf-efficientnet-lite0-d16_1xb4-3e_separable-pretrained_synthetic-128x256.py'
_dense = 'configs/quickstart/joint_tf-efficientnet-lite0-d16_1xb4-3e_pretrained_synthetic-128x256.py'
_epochs = {
    number: {'train_cfg.max_epochs': number, 'train_cfg.val_interval': number, 'param_scheduler.1.end': number}
    for number in (1, 5, 6)
}
# 1 / log(1.1 + share), as tools/dataset_tools/compute_statistics.py prints them.
_shares = [0.62, 1.3, 0.84, 2.01, 2.01, 1.85, 2.11, 2.04, 0.98, 1.75, 1.06, 1.9, 2.09, 1.1, 2.0, 2.0, 1.92, 2.09, 2.08]
_weights = {'model.tasks.semseg.loss': dict(type='UpsampledCrossEntropyLoss', class_weight=_shares)}
_tables = {
    'Recipes': {
        'dense, Adam 1e-3': dict(config=_dense),
        'separable, Adam 1e-3': dict(
            config=_dense, options={'model.fast_depthwise': True, 'model.decode_head.head.separable': True}
        ),
        'separable, AdamW 2e-3, warm-up': dict(),
        'separable, AdamW 2e-3, warm-up, moving average': dict(options={'custom_hooks': [dict(type='EMAHook', momentum=0.02)]}),
        'separable, AdamW 2e-3, warm-up, six epochs': dict(options=_epochs[6]),
        'separable, AdamW 2e-3, warm-up, one epoch': dict(options=_epochs[1]),
    },
    'Variations of the third row': {
        'batch 8, AdamW 2.8e-3': dict(options={'train_dataloader.batch_size': 8, 'optim_wrapper.optimizer.lr': 2.8e-3}),
        'class weights, 1 / log(1.1 + share)': dict(options=_weights),
        'class weights, six epochs': dict(options={**_epochs[6], **_weights}),
        'class weights, six epochs, depth twice as heavy': dict(
            options={**_epochs[6], **_weights, 'model.task_balancing.weights.depth': 1.0}
        ),
        'crops of 96x192, five epochs': dict(options={**_epochs[5], 'train_dataloader.dataset.pipeline.1.crop_size': [96, 192]}),
    },
}
rows = {name: dict(row, table=title) for title, table in _tables.items() for name, row in table.items()}
