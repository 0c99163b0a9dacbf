from mtl_plugins.models.segmentors.mmseg_segmentor import MMSegSegmentor
from mtl_plugins.models.segmentors.multitask_segmentor import MultiTaskSegmentor

__all__ = ['MMSegSegmentor', 'MultiTaskSegmentor']
