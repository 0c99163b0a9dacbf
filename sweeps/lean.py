# Separable heads and light backbones. Results: docs/ablation/lean; what they say: docs/benchmarks/measured.md.
# python tools/sweep.py sweeps/lean.py --jobs 2
_base_ = ['_base_/ablation_budget.py']
about = 'Lean models on generated scenes: separable heads and light backbones, every row with the same data and budget.'
baseline = True
_no_weights = {'model.backbone.init_cfg': None}
_tables = {
    'Lean heads, ResNet-18 from random weights': {
        'dense': dict(config='configs/joint/joint_r18-d16_1xb16-32e_miniscapes-256x256.py'),
        'separable': dict(config='configs/joint/joint_r18-d16_1xb16-32e_separable_miniscapes-256x256.py'),
        'separable, one convolution': dict(config='configs/joint/joint_r18-d16_1xb16-32e_separable-1conv_miniscapes-256x256.py'),
        'separable, 128 channels': dict(config='configs/joint/joint_r18-d16_1xb16-32e_separable-128_miniscapes-256x256.py'),
    },
    'Light backbones from random weights, separable heads': {
        'MobileNetV3-L': dict(
            config='configs/joint/joint_mobilenetv3-large-100-d16_1xb16-32e_separable_miniscapes-256x256.py', options=_no_weights
        ),
        'MobileNetV4-Conv-S': dict(
            config='configs/joint/joint_mobilenetv4-conv-small-d16_1xb16-32e_separable_miniscapes-256x256.py', options=_no_weights
        ),
        'FastViT-T8': dict(
            config='configs/joint/joint_fastvit-t8-d32_1xb16-32e_separable_miniscapes-256x256.py', options=_no_weights
        ),
        'SegFormer-B0': dict(config='configs/joint/joint_mit-b0-d32_1xb16-32e_segformer_miniscapes-256x256.py'),
    },
    'EfficientNet-Lite0 from ImageNet weights': {
        'EfficientNet-Lite0, separable': dict(
            config='configs/joint/joint_tf-efficientnet-lite0-d16_1xb16-32e_separable-pretrained_miniscapes-256x256.py'
        )
    },
}
rows = {name: dict(row, table=title) for title, table in _tables.items() for name, row in table.items()}
