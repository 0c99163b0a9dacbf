"""Cross-entropy of boundaries, of which an image has few (HED, arXiv 1504.06375)."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mtl_plugins.errors import ArgumentError
from mtl_plugins.registry import MODELS


@MODELS.register_module()
class BalancedBoundaryLoss(nn.Module):
    """Binary cross-entropy in which boundary and other pixels weigh ``w`` and ``1 - w``; mean over the valid pixels of the batch.

    The weight ``w`` of boundary pixels is the share of the others among the valid pixels of the batch, so that both kinds have
    the same say, or a fixed number (0.95 in arXiv 1904.08918). Nothing valid: exactly 0 with gradient 0. Computed in float32.

    Args:
        positive_weight: ``w`` in (0, 1); None balances each batch.
        ignore_index: The label of pixels that do not count.

    Raises:
        ArgumentError: If ``positive_weight`` is out of its range.
    """

    name = 'bce'

    def __init__(self, *, positive_weight: float | None = None, ignore_index: int = 255) -> None:
        super().__init__()
        if positive_weight is not None and not 0 < positive_weight < 1:
            raise ArgumentError(f'`positive_weight` should be in (0, 1) or None. Found {positive_weight}.')
        self.positive_weight = positive_weight
        self.ignore_index = ignore_index

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Loss of logits ``(B, H, W)`` against ``(B, H, W)``: 1 boundary, 0 none, or ``ignore_index``."""
        with torch.autocast(logits.device.type, enabled=False):
            valid = (target != self.ignore_index).float()
            boundary = (target == 1).float()
            count = valid.sum().clamp(min=1)
            weight = self.positive_weight
            if weight is None:
                weight = 1 - boundary.sum() / count
            weights = (boundary * weight + (1 - boundary) * (1 - weight)) * valid
            return F.binary_cross_entropy_with_logits(logits.float(), boundary, weight=weights, reduction='sum') / count
