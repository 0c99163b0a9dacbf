from mtl_plugins.models.tasks.boundary import BoundaryTask
from mtl_plugins.models.tasks.class_mask import ClassMaskTask
from mtl_plugins.models.tasks.depth import DepthTask
from mtl_plugins.models.tasks.normals import NormalsTask
from mtl_plugins.models.tasks.semseg import SemSegTask

__all__ = ['BoundaryTask', 'ClassMaskTask', 'DepthTask', 'NormalsTask', 'SemSegTask']
