# The joint model for the 40 classes and depth of NYU Depth V2 at 288x384.
# python tools/train.py configs/joint/joint_tf-efficientnet-lite0-d16_1xb8-12e_40-separable-pretrained_nyuv2-288x384.py
_base_ = ['joint_tf-efficientnet-lite0-d16_1xb8-12e_separable-pretrained_nyuv2-288x384.py']
forty = dict(dataset=dict(num_classes=40))
train_dataloader = forty
val_dataloader = forty
test_dataloader = forty
