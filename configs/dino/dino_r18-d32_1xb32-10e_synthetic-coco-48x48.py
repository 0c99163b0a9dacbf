# DINO (arXiv 2104.14294), ResNet-18, on crops of objects of a small generated COCO: a few minutes on two CPU cores.
# python tools/train.py configs/dino/dino_r18-d32_1xb32-10e_synthetic-coco-48x48.py --data-root DATA
_base_ = [
    '../_base_/models/dino_r18-d32.py',
    '../_base_/datasets/object-crops_64x64.py',
    '../_base_/schedules/dino_adamw_10e.py',
    '../_base_/dino_runtime.py',
]
model = dict(projection_head=dict(hidden_channels=512, bottleneck_channels=128, out_channels=512, batch_norm=True))
default_hooks = dict(dino_schedule=dict(momentum=(0.98, 1.0), temperature_epochs=3, end_weight_decay=0.1))
views = dict(type='MultiCrop', global_size=48, local_size=24, num_local=4, local_scale=(0.15, 0.4))
train_dataloader = dict(dataset=dict(pipeline=[views, dict(type='PackViews', meta_keys=())]))
val_dataloader = dict(dataset=dict(pipeline=[views, dict(type='PackViews')]))
