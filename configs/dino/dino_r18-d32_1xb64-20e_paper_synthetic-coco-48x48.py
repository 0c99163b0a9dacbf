# DINO with the paper's moving centre, temperature warm-up of the teacher and local views, on the generated COCO.
# python tools/train.py configs/dino/dino_r18-d32_1xb64-20e_paper_synthetic-coco-48x48.py --data-root DATA
_base_ = ['dino_r18-d32_1xb64-20e_synthetic-coco-48x48.py']
model = dict(centring='mean')
schedule = dict(momentum=(0.95, 1.0), teacher_temperature=(0.017, 0.022), temperature_epochs=6, end_weight_decay=0.4)
default_hooks = dict(dino_schedule=schedule)
optim_wrapper = dict(optimizer=dict(lr=5e-4))
views = dict(type='MultiCrop', global_size=48, local_size=24, num_local=4)
train_dataloader = dict(dataset=dict(pipeline=[views, dict(type='PackViews', meta_keys=())]))
val_dataloader = dict(dataset=dict(pipeline=[views, dict(type='PackViews')]))
