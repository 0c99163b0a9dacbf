# Single objects of the real COCO 2017, cut out by `mtl data prepare-coco`, in views of DINO's sizes.
_base_ = ['object-crops_64x64.py']
views = dict(type='MultiCrop', global_size=224, local_size=96, num_local=6, local_scale=(0.05, 0.4), blur_sigma=(0.1, 2.0))
crops = dict(folder='crops', margin=None, min_size=None)
train_dataloader = dict(
    batch_size=64,
    dataset=dict(**crops, split='train2017', pipeline=[views, dict(type='PackViews', meta_keys=())]),
)
val_dataloader = dict(
    batch_size=64,
    dataset=dict(**crops, split='val2017', pipeline=[views, dict(type='PackViews')]),
)
