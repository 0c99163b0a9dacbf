# ImageNet weights against random ones. Results and what they say: docs/ablation, "Initial weights".
# python tools/sweep.py sweeps/pretrained.py --jobs 2
_base_ = ['_base_/ablation_budget.py']
about = (
    'Random and ImageNet weights of EfficientNet-Lite0 on generated scenes, beside ResNet-18 from random weights, every row with '
    'the same data and budget.'
)
baseline = True
rows = {
    'EfficientNet-Lite0, ImageNet': dict(
        config='configs/joint/joint_tf-efficientnet-lite0-d16_1xb16-32e_pretrained_miniscapes-256x256.py'
    ),
    'EfficientNet-Lite0, random': dict(config='configs/joint/joint_tf-efficientnet-lite0-d16_1xb16-32e_miniscapes-256x256.py'),
    'ResNet-18, random': dict(config='configs/joint/joint_r18-d16_1xb16-32e_miniscapes-256x256.py'),
}
