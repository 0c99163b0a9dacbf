# A whole model of mmseg; `segmentor` is the name of its config.
model = dict(
    type='MMSegSegmentor',
    data_preprocessor=dict(
        type='MultiTaskDataPreprocessor', mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], size_divisor=32
    ),
    segmentor=None,
    pretrained=True,
    tasks=dict(semseg=dict(type='SemSegTask')),
)
