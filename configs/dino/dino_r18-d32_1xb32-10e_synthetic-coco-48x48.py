# DINO (arXiv 2104.14294), ResNet-18, on crops of objects of a small generated COCO: a few minutes on two CPU cores.
# python tools/train.py configs/dino/dino_r18-d32_1xb32-10e_synthetic-coco-48x48.py --data-root DATA
_base_ = [
    '../_base_/models/dino_r18-d32.py',
    '../_base_/datasets/object-crops_64x64.py',
    '../_base_/schedules/dino_adamw_10e.py',
    '../_base_/dino_runtime.py',
]
model = dict(projection_head=dict(hidden_channels=512, bottleneck_channels=128, out_channels=512, batch_norm=True))
schedule = dict(momentum=(0.98, 1.0), teacher_temperature=(0.02, 0.04), temperature_epochs=5, end_weight_decay=0.1)
default_hooks = dict(dino_schedule=schedule)
scales = dict(global_scale=(0.5, 1.0), local_scale=(0.25, 0.6))
views = dict(type='MultiCrop', global_size=48, local_size=24, num_local=4, blur=(0.5, 0.1, 0.2), **scales)
train_dataloader = dict(dataset=dict(pipeline=[views, dict(type='PackViews', meta_keys=())]))
val_dataloader = dict(dataset=dict(pipeline=[views, dict(type='PackViews')]))
