from mtl_plugins.models.tasks.depth import DepthTask
from mtl_plugins.models.tasks.semseg import SemSegTask

__all__ = ['DepthTask', 'SemSegTask']
