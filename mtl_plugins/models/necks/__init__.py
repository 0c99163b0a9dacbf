from mtl_plugins.models.necks.plain_vit_pyramid import PlainViTPyramid

__all__ = ['PlainViTPyramid']
