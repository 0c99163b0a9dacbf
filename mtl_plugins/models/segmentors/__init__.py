from mtl_plugins.models.segmentors.multitask_segmentor import MultiTaskSegmentor

__all__ = ['MultiTaskSegmentor']
