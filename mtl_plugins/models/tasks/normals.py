"""Surface normals: a unit vector per pixel."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mtl_plugins.models.tasks.dense_task import DenseTask
from mtl_plugins.registry import MODELS

FORWARD = (0.0, 0.0, 1.0)


@MODELS.register_module()
class NormalsTask(DenseTask):
    """Three channels, upsampled to the label's size, then scaled to length 1: x right, y up, z towards the camera.

    Labels are unit vectors ``(B, 3, H, W)``; those of length 0 do not count. A prediction of length 0 becomes one that faces
    the camera. Test-time views are merged by the direction of their mean; mirrored views have x negated. The loss of vectors,
    targets and a mask is :class:`CosineNormalLoss` by default.
    """

    out_channels = 3
    default_loss = 'CosineNormalLoss'
    mergings = ('mean',)

    def valid_mask(self, target: Tensor) -> Tensor:
        return target.any(1)

    def compare(self, criterion: nn.Module, prediction: Tensor, target: Tensor) -> Tensor:
        with torch.autocast(prediction.device.type, enabled=False):
            return criterion(self.upsample(prediction.float(), target.shape[-2:]), target, self.valid_mask(target))

    def predict(self, prediction: Tensor, size: tuple[int, int]) -> Tensor:
        with torch.autocast(prediction.device.type, enabled=False):
            return to_unit(self.upsample(prediction.float(), size))

    def mirror(self, prediction: Tensor) -> Tensor:
        x, y, z = prediction.flip(-1).unbind(-3)
        return torch.stack([-x, y, z], dim=-3)

    def view_values(self, output: Tensor, merging: str, zoom: float) -> Tensor:
        return to_unit(output)

    def merged_view(self, total: Tensor, num_views: int, merging: str) -> Tensor:
        return to_unit(total)


def to_unit(vectors: Tensor) -> Tensor:
    """Vectors ``(..., 3, H, W)`` at length 1; those of length 0 face the camera."""
    forward = vectors.new_tensor(FORWARD).view(3, 1, 1)
    vectors = torch.where(vectors.any(-3, keepdim=True), vectors, forward)
    return F.normalize(vectors, dim=-3, eps=torch.finfo(torch.float32).tiny)
