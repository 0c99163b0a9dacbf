# DeepLabV3+ (arXiv 1802.02611), ResNet-18, output stride 8, with the network, losses, optimizer and schedule of mmseg.
# python tools/train.py configs/mmseg/mmseg_r18-d8_1xb2-80k_deeplabv3plus_miniscapes-256x256.py
_base_ = ['../_base_/mmseg_miniscapes_256x256.py']
model = dict(segmentor='mmseg::deeplabv3plus/deeplabv3plus_r18-d8_4xb2-80k_cityscapes-512x1024.py')
train_dataloader = dict(batch_size=2)
