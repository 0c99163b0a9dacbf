"""Scale-invariant logarithmic depth error (arXiv 1406.2283) in the form sqrt(Var(e) + lambda * mean(e)^2)."""

from typing import Literal

import torch
from torch import Tensor, nn

from mtl_plugins.errors import ArgumentError
from mtl_plugins.registry import MODELS

# Predictions below a millimetre count as one: the logarithm stays finite, and so does its slope.
MIN_DEPTH = 1e-3


def safe_sqrt(value: Tensor) -> Tensor:
    """Square root of a value >= 0 whose gradient at 0 is 0, not infinite."""
    positive = value > 0
    return torch.where(positive, torch.where(positive, value, 1.0).sqrt(), 0.0)


def silog_loss(
    prediction: Tensor,
    target: Tensor,
    valid_mask: Tensor,
    *,
    lambda_: float = 0.15,
    reduction: Literal['batch', 'image'] = 'batch',
) -> Tensor:
    """``sqrt(Var(e) + lambda_ * mean(e)^2)`` with ``e = log(target) - log(prediction)`` over the valid pixels.

    The variance is the biased one. Computed in float32 whatever comes in. Nothing valid: exactly 0 with gradient 0; so is the
    gradient of a perfect prediction.

    Args:
        prediction: Metres ``(B, H, W)``, >= 0; clamped to 1 mm.
        target: Metres ``(B, H, W)``; read where valid only.
        valid_mask: Bool ``(B, H, W)``.
        lambda_: 0 ignores a common scale error, 1 is the root mean squared logarithmic error.
        reduction: ``'batch'`` takes the moments over all valid pixels of the batch, ``'image'`` those of each image, and then
            the mean over the images that have a valid pixel.
    """
    with torch.autocast(prediction.device.type, enabled=False):
        log_prediction = torch.where(valid_mask, prediction.float(), 1.0).clamp(min=MIN_DEPTH).log()
        error = torch.where(valid_mask, target.float(), 1.0).log() - log_prediction
        axes = (0, 1, 2) if reduction == 'batch' else (1, 2)
        count = valid_mask.sum(axes, keepdim=True)
        divisor = count.clamp(min=1)
        mean = error.sum(axes, keepdim=True) / divisor
        variance = ((error - mean) * valid_mask).square().sum(axes, keepdim=True) / divisor
        losses = safe_sqrt(variance + lambda_ * mean.square())
        return losses.sum() / (count > 0).sum().clamp(min=1)


@MODELS.register_module()
class SILogLoss(nn.Module):
    """:func:`silog_loss` as a configured loss on metres.

    Args:
        lambda_: Share of the squared mean error, in [0, 1].
        reduction: ``'batch'`` or ``'image'``.

    Raises:
        ArgumentError: If an argument is out of its range.
    """

    name = 'silog'
    space = 'metres'

    def __init__(self, *, lambda_: float = 0.15, reduction: str = 'batch') -> None:
        super().__init__()
        if not 0 <= lambda_ <= 1:
            raise ArgumentError(f'`lambda_` should be in [0, 1]. Found {lambda_}.')
        if reduction not in ('batch', 'image'):
            raise ArgumentError(f"`reduction` should be 'batch' or 'image'. Found {reduction!r}.")
        self.lambda_ = lambda_
        self.reduction = reduction

    def forward(self, prediction: Tensor, target: Tensor, valid_mask: Tensor) -> Tensor:
        return silog_loss(prediction, target, valid_mask, lambda_=self.lambda_, reduction=self.reduction)
