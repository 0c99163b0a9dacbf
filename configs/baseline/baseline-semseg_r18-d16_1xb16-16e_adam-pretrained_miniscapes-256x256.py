# Baseline for segmentation alone from ImageNet weights with dilation (output stride 16), Adam 1e-4.
# python tools/train.py configs/baseline/baseline-semseg_r18-d16_1xb16-16e_adam-pretrained_miniscapes-256x256.py
_base_ = ['baseline-semseg_r18-d32_1xb16-16e_adam-pretrained_miniscapes-256x256.py']
model = dict(data_preprocessor=dict(size_divisor=16), backbone=dict(output_stride=16))
