"""Angle between predicted and true normals, by their cosine."""

import torch
from torch import Tensor, nn

from mtl_plugins.registry import MODELS

# Shorter vectors count as this long: the direction of almost nothing has no bounded slope.
MIN_LENGTH = 1e-4


@MODELS.register_module()
class CosineNormalLoss(nn.Module):
    """Mean of ``1 - cos(prediction, target)`` over the valid pixels of the batch; exactly 0 with gradient 0 without any.

    Predictions have any length; one shorter than 1e-4 counts as that long, so that neither value nor slope is ever NaN or
    infinite. Computed in float32.
    """

    name = 'cosine'

    def forward(self, prediction: Tensor, target: Tensor, valid_mask: Tensor) -> Tensor:
        """Loss of vectors ``(B, 3, H, W)`` against unit vectors ``(B, 3, H, W)`` where ``valid_mask`` ``(B, H, W)``."""
        with torch.autocast(prediction.device.type, enabled=False):
            prediction = prediction.float()
            length = prediction.square().sum(1).clamp(min=MIN_LENGTH**2).sqrt()
            cosine = (prediction * target).sum(1) / length
            return ((1 - cosine) * valid_mask).sum() / valid_mask.sum().clamp(min=1)
