from mtl_plugins.models.backbones.resnet import DilatedResNet
from mtl_plugins.models.backbones.timm_backbone import TimmBackbone
