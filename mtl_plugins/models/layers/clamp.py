"""A clamp that a value outside can leave again."""

import torch
from torch import Tensor


class _ClampWithWayBack(torch.autograd.Function):
    @staticmethod
    def forward(ctx, value: Tensor, minimum: float, maximum: float) -> Tensor:
        ctx.save_for_backward(value)
        ctx.limits = (minimum, maximum)
        return value.clamp(minimum, maximum)

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, None, None]:
        (value,) = ctx.saved_tensors
        minimum, maximum = ctx.limits
        blocked = ((value < minimum) & (gradient > 0)) | ((value > maximum) & (gradient < 0))
        return gradient.masked_fill(blocked, 0.0), None, None


def clamp_with_way_back(value: Tensor, minimum: float, maximum: float) -> Tensor:
    """Clamp whose gradient is that of ``torch.clamp`` inside, and outside passes only what leads back inside.

    With ``torch.clamp`` a pixel that once left the range gets no gradient ever again.
    """
    return _ClampWithWayBack.apply(value, minimum, maximum)
