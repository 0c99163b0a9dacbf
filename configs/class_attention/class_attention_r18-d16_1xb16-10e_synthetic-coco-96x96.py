# Class attention on DeepLabV3 (arXiv 1706.05587), ResNet-18 from random weights, on the generated COCO.
# python tools/train.py configs/class_attention/class_attention_r18-d16_1xb16-10e_synthetic-coco-96x96.py
_base_ = [
    '../_base_/models/class_attention_r18-d16.py',
    '../_base_/datasets/coco-subset_96x96.py',
    '../_base_/schedules/schedule_adam_10e.py',
    '../_base_/segmentation_runtime.py',
]
# COCO's test split has no labels.
test_dataloader = _base_.val_dataloader
test_evaluator = _base_.val_evaluator
default_hooks = dict(pictures=dict(predictions=dict(type='AttentionImages')))
