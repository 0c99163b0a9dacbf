# Single objects of the real COCO 2017 as tools/dataset_tools/prepare_coco.py cuts them out, in DINO's sizes of views.
_base_ = ['object-crops_64x64.py']
views = dict(type='MultiCrop', global_size=224, local_size=96, num_local=6, local_scale=(0.05, 0.4), blur_sigma=(0.1, 2.0))
train_dataloader = dict(
    batch_size=64,
    dataset=dict(split='train2017', folder='crops', pipeline=[views, dict(type='PackViews', meta_keys=())]),
)
val_dataloader = dict(batch_size=64, dataset=dict(split='val2017', folder='crops', pipeline=[views, dict(type='PackViews')]))
