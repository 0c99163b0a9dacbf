from mtl_plugins.models.self_supervised.dino import DINO
from mtl_plugins.models.self_supervised.dino_head import DINOHead

__all__ = ['DINO', 'DINOHead']
