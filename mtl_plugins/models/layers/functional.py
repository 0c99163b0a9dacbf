"""Functions without weights: bilinear upsampling as two small constant matrices, and a clamp that values can leave again."""

from collections.abc import Callable
from functools import wraps

import torch
import torch.nn.functional as F
from torch import Tensor

_MOST_KEPT = 64


def _kept(make: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Keep the results of ``make`` for the last few arguments, but no symbols of a graph: they would break each later call."""
    kept: dict[tuple, Tensor] = {}

    @wraps(make)
    def wrapper(*arguments) -> Tensor:
        if torch.compiler.is_compiling():
            return make(*arguments)
        matrix = kept.get(arguments)
        if matrix is None:
            matrix = make(*arguments)
            # A subclass stands for a tensor of a trace.
            if type(matrix) is Tensor:
                if len(kept) >= _MOST_KEPT:
                    kept.pop(next(iter(kept)), None)
                kept[arguments] = matrix
        return matrix

    return wrapper


@_kept
def interpolation_matrix(source: int, size: int, device: torch.device, dtype: torch.dtype) -> Tensor:
    """``(size, source)``: the matrix by which ``F.interpolate`` (linear, corners not aligned) maps one axis."""
    if torch.compiler.is_compiling():
        # The same in operations that every runtime of exported models has, where lengths may be symbols.
        places = (2 * torch.arange(size, device=device) + 1).double() * source / (2 * size) - 0.5
        distances = places.clamp(0, source - 1)[:, None] - torch.arange(source, device=device)
        return (1 - distances.abs()).clamp(min=0).to(dtype)
    # Made in inference mode, a tensor that outlives it in the cache could not serve training.
    with torch.inference_mode(False):
        identity = torch.eye(source, dtype=torch.float64, device='cpu')
        matrix = F.interpolate(identity[None], size=size, mode='linear', align_corners=False)[0].t()
        return matrix.to(device, dtype).contiguous()


@_kept
def shifted_interpolation_matrix(source: int, size: int, device: torch.device, dtype: torch.dtype, kernel_first: bool) -> Tensor:
    """Upsampling of one axis followed by the three taps of a 3-kernel with zero border: ``(size, 3 * source)``.

    Row ``i`` holds, for each tap ``k``, row ``i + k - 1`` of the interpolation matrix, or zeros where that is outside. The
    columns are ordered ``(tap, source)`` if ``kernel_first``, else ``(source, tap)``.
    """
    with torch.inference_mode(False):
        # Computed on the CPU, once; within a compiled graph on the device, as a copy in each step would make it wait.
        place = device if torch.compiler.is_compiling() else torch.device('cpu')
        matrix = F.pad(interpolation_matrix(source, size, place, torch.float64), (0, 0, 1, 1))
        taps = torch.stack([matrix[tap : tap + size] for tap in range(3)], dim=1 if kernel_first else 2)
        return taps.reshape(size, 3 * source).to(device, dtype)


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
