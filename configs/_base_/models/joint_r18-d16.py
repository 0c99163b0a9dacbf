model = dict(
    type='MultiTaskSegmentor',
    data_preprocessor=dict(
        type='MultiTaskDataPreprocessor', mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], size_divisor=16
    ),
    backbone=dict(type='DilatedResNet', depth=18, output_stride=16),
    decode_head=dict(type='JointHead', head=dict(type='DeepLabV3PlusHead', rates=(3, 6, 9), skip_channels=48, num_convs=2)),
    tasks=dict(
        semseg=dict(type='SemSegTask'),
        depth=dict(type='DepthTask', representation='exp', depth_range=(0.1, 300.0), loss=dict(type='SILogLoss')),
    ),
    task_balancing=dict(type='FixedWeights', weights=dict(semseg=0.5, depth=0.5)),
)
