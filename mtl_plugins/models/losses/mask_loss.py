"""Loss of a binary mask, of coarse logits against a finer label."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mtl_plugins.errors import ArgumentError
from mtl_plugins.registry import MODELS


@MODELS.register_module()
class UpsampledMaskLoss(nn.Module):
    """Mean binary cross-entropy over the valid pixels of the batch, plus ``dice_weight`` times the mean Dice loss of the images.

    The logits are upsampled to the label's size (bilinear, corners not aligned). The Dice loss of an image is ``1 - (2 sum(p y) +
    1) / (sum(p) + sum(y) + 1)`` over its valid pixels, with the probability p and the label y; it does not count where an image
    has no valid pixel. Computed in float32. Nothing valid: exactly 0 with gradient 0.

    Args:
        dice_weight: Weight >= 0 of the Dice loss.
        ignore_index: The label of pixels that do not count.

    Raises:
        ArgumentError: If ``dice_weight`` is negative.
    """

    name = 'mask'

    def __init__(self, *, dice_weight: float = 0.0, ignore_index: int = 255) -> None:
        super().__init__()
        if dice_weight < 0:
            raise ArgumentError(f'`dice_weight` should not be negative. Found {dice_weight}.')
        self.dice_weight = dice_weight
        self.ignore_index = ignore_index

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Loss of logits ``(B, 1, h, w)`` against labels ``(B, H, W)``: 0, 1 or ``ignore_index``."""
        with torch.autocast(logits.device.type, enabled=False):
            logits = F.interpolate(logits.float(), size=target.shape[-2:], mode='bilinear', align_corners=False).squeeze(1)
            valid = (target != self.ignore_index).float()
            label = (target == 1).float()
            entropy = F.binary_cross_entropy_with_logits(logits, label, weight=valid, reduction='sum')
            loss = entropy / valid.sum().clamp(min=1)
            if self.dice_weight:
                loss = loss + self.dice_weight * self.dice(logits.sigmoid() * valid, label * valid, valid)
            return loss

    @staticmethod
    def dice(probability: Tensor, label: Tensor, valid: Tensor) -> Tensor:
        axes = (1, 2)
        score = (2 * (probability * label).sum(axes) + 1) / (probability.sum(axes) + label.sum(axes) + 1)
        counts = valid.sum(axes) > 0
        return ((1 - score) * counts).sum() / counts.sum().clamp(min=1)
