# DINO (arXiv 2104.14294), ResNet-18, on object crops of COCO 2017 by `mtl data prepare-coco`, with the paper's schedules.
# python tools/train.py configs/dino/dino_r18-d32_1xb64-100e_coco-crops-224x224.py --data-root COCO
_base_ = [
    '../_base_/models/dino_r18-d32.py',
    '../_base_/datasets/object-crops_224x224.py',
    '../_base_/schedules/dino_adamw_100e.py',
    '../_base_/dino_runtime.py',
]
square = [dict(type='ResizeCrop', size=224), dict(type='PackViews')]
default_hooks = dict(features=dict(pipeline=square, num_train=10000, num_val=2000, interval=10))
