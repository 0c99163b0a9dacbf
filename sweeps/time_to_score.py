# Training time to 30 mIoU and 36 SI-logRMSE. Results: docs/time_to_score; what they say: docs/benchmarks/measured.md.
# python tools/sweep.py sweeps/time_to_score.py --jobs 2
about = "Training time to 30 mIoU and 36 SI-logRMSE on the demo's data: the demo's recipe beside that of the courses."
data = dict(train=800, val=100, test=0, size=[128, 256], seed=0)
seeds = [0, 1, 2]
targets = {'mIoU': 30, 'SI-logRMSE': 36}
val_iters = 50
options = {
    'train_dataloader.batch_size': 4,
    'val_dataloader.batch_size': 4,
    'default_hooks.pictures.observed.interval': 0,
    'default_hooks.pictures.confusion.interval': 0,
    'default_hooks.histograms.interval': 0,
    'default_hooks.pictures.training.interval': 0,
}
_courses = {
    'train_dataloader.dataset.pipeline.1.crop_size': 128,
    'train_cfg.max_epochs': 16,
    'param_scheduler.0.end': 17,
    'param_scheduler.0.convert_to_iter_based': False,
}
_bf16 = {'optim_wrapper.type': 'Bf16OptimWrapper'}
_demo = 'configs/quickstart/joint_tf-efficientnet-lite0-d16_1xb4-6e_separable-pretrained_synthetic-128x256.py'
rows = {
    'courses': dict(config='configs/joint/joint_r18-d16_1xb16-32e_miniscapes-256x256.py', options=_courses),
    'courses, EfficientNet-Lite0 from ImageNet weights': dict(
        config='configs/joint/joint_tf-efficientnet-lite0-d16_1xb16-32e_pretrained_miniscapes-256x256.py', options=_courses
    ),
    'demo': dict(config=_demo, options=_bf16),
    'demo, schedule of two epochs': dict(config=_demo, options={**_bf16, 'train_cfg.max_epochs': 2, 'param_scheduler.1.end': 2}),
}
