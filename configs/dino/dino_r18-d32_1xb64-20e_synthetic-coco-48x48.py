# DINO (arXiv 2104.14294), ResNet-18, for short runs on object crops of a small generated COCO: minutes on two CPU cores.
# python tools/train.py configs/dino/dino_r18-d32_1xb64-20e_synthetic-coco-48x48.py --data-root DATA
_base_ = [
    '../_base_/models/dino_r18-d32.py',
    '../_base_/datasets/object-crops_64x64.py',
    '../_base_/schedules/dino_adamw_20e.py',
    '../_base_/dino_runtime.py',
]
head = dict(hidden_channels=512, bottleneck_channels=128, out_channels=512, batch_norm=True)
model = dict(projection_head=head, centring='sinkhorn')
schedule = dict(momentum=(0.8, 1.0), teacher_temperature=(0.01, 0.01), temperature_epochs=0, end_weight_decay=0.1)
default_hooks = dict(dino_schedule=schedule, features=dict(pipeline=[dict(type='ResizeCrop', size=48), dict(type='PackViews')]))
views = dict(type='MultiCrop', global_size=48, num_local=0, global_scale=(0.5, 1.0), blur=(0.5, 0.1, 0.0))
train_dataloader = dict(batch_size=64, dataset=dict(pipeline=[views, dict(type='PackViews', meta_keys=())]))
val_dataloader = dict(batch_size=64, dataset=dict(pipeline=[views, dict(type='PackViews')]))
