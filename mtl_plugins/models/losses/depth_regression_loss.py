"""L1 and L2 regression of a depth representation."""

import torch
from torch import Tensor, nn

from mtl_plugins.errors import ArgumentError
from mtl_plugins.registry import MODELS


@MODELS.register_module()
class DepthRegressionLoss(nn.Module):
    """Mean absolute or squared difference over the valid pixels of the batch; exactly 0 with gradient 0 without any.

    Prediction and target ``(B, H, W)`` are in the network's representation (normalised metres, log-depth, ...), not in
    metres; the mask is bool. Computed in float32.

    Args:
        norm: ``'l1'`` or ``'l2'``.

    Raises:
        ArgumentError: If ``norm`` is neither.
    """

    space = 'representation'

    def __init__(self, *, norm: str = 'l1') -> None:
        super().__init__()
        if norm not in ('l1', 'l2'):
            raise ArgumentError(f"`norm` should be 'l1' or 'l2'. Found {norm!r}.")
        self.name = norm

    def forward(self, prediction: Tensor, target: Tensor, valid_mask: Tensor) -> Tensor:
        with torch.autocast(prediction.device.type, enabled=False):
            error = torch.where(valid_mask, prediction.float() - target.float(), 0.0)
            error = error.abs() if self.name == 'l1' else error.square()
            return error.sum() / valid_mask.sum().clamp(min=1)
