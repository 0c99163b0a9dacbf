model = dict(
    type='DINO',
    data_preprocessor=dict(type='MultiViewDataPreprocessor', mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375]),
    backbone=dict(type='DilatedResNet', depth=18, output_stride=32),
    projection_head=dict(type='DINOHead', hidden_channels=2048, bottleneck_channels=256, out_channels=65536),
    student_temperature=0.1,
    centre_momentum=0.9,
)
