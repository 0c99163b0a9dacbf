from mtl_plugins.models.segmentors.class_conditional_segmentor import ClassConditionalSegmentor
from mtl_plugins.models.segmentors.mmseg_segmentor import MMSegSegmentor
from mtl_plugins.models.segmentors.multitask_segmentor import MultiTaskSegmentor

__all__ = ['ClassConditionalSegmentor', 'MMSegSegmentor', 'MultiTaskSegmentor']
