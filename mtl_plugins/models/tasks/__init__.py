from mtl_plugins.models.tasks.class_mask import ClassMaskTask
from mtl_plugins.models.tasks.depth import DepthTask
from mtl_plugins.models.tasks.semseg import SemSegTask

__all__ = ['ClassMaskTask', 'DepthTask', 'SemSegTask']
