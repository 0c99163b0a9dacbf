from mtl_plugins.models.tasks.boundary import BoundaryTask
from mtl_plugins.models.tasks.depth import DepthTask
from mtl_plugins.models.tasks.normals import NormalsTask
from mtl_plugins.models.tasks.semseg import SemSegTask
