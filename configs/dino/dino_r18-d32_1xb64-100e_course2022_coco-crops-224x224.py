# DINO (arXiv 2104.14294), ResNet-18, on the unlabelled crops of the assignment of 2022.
# python tools/train.py configs/dino/dino_r18-d32_1xb64-100e_course2022_coco-crops-224x224.py --data-root unlabelled_dataset
_base_ = ['dino_r18-d32_1xb64-100e_coco-crops-224x224.py']
train_dataloader = dict(dataset=dict(folder='crops/images/256', split='train'))
val_dataloader = dict(dataset=dict(folder='crops/images/256', split='val'))
