from mtl_plugins.models.backbones.resnet import DilatedResNet

__all__ = ['DilatedResNet']
