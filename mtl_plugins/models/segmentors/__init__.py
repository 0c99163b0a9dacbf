from mtl_plugins.models.segmentors.class_conditional_segmentor import ClassConditionalSegmentor
from mtl_plugins.models.segmentors.multitask_segmentor import MultiTaskSegmentor

__all__ = ['ClassConditionalSegmentor', 'MultiTaskSegmentor']
