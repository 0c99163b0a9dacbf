"""Functions without weights of their own: bilinear upsampling, convolutions of what it gives, and a clamp with a way back."""

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


def plain_upsampled_conv3x3(features: Tensor, skip: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Upsample ``features`` bilinearly to the size of ``skip``, concatenate, convolve with zero border.

    ``(B, C, h, w)`` and ``(B, S, H, W)`` become ``(B, O, H, W)``, by a weight ``(O, C + S, 3, 3)``.
    """
    upsampled = F.interpolate(features, size=skip.shape[-2:], mode='bilinear', align_corners=False)
    return F.conv2d(torch.cat([upsampled, skip], dim=1), weight, bias, padding=1)


def factored_upsampled_conv3x3(features: Tensor, skip: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Compute :func:`plain_upsampled_conv3x3` of the same shapes, equal in value and gradient to rounding."""
    batch, channels, h, w = features.shape
    height, width = skip.shape[-2:]
    out_channels = len(weight)
    coarse_weight, skip_weight = weight[:, :channels], weight[:, channels:]
    rows_Hkh = shifted_interpolation_matrix(h, height, features.device, features.dtype, True)
    columns_Wwk = shifted_interpolation_matrix(w, width, features.device, features.dtype, False)

    # Nine 1x1 convolutions at once; their products lie (B, h, w, k, k, O) in memory: taps of a column before those of a row.
    mixing_weight = coarse_weight.permute(3, 2, 0, 1).reshape(9 * out_channels, channels, 1, 1)
    mixed_BhwkkO = F.conv2d(features, mixing_weight).permute(0, 2, 3, 1)
    wide_BhWkO = torch.matmul(columns_Wwk, mixed_BhwkkO.reshape(batch * h, w * 3, 3 * out_channels))
    wide_BkhWO = wide_BhWkO.view(batch, h, width, 3, out_channels).permute(0, 3, 1, 2, 4)
    fine_BHWO = torch.matmul(rows_Hkh, wide_BkhWO.reshape(batch, 3 * h, width * out_channels))
    fine_BOHW = fine_BHWO.view(batch, height, width, out_channels).permute(0, 3, 1, 2)
    return F.conv2d(skip, skip_weight, bias, padding=1) + fine_BOHW


def factored_is_cheaper(channels: int, coarse: tuple[int, int], fine: tuple[int, int]) -> bool:
    """Return True if the factored form needs at most half the multiplications of the plain one: it moves more bytes for each."""
    (h, w), (height, width) = coarse, fine
    mixing = 9 * h * w * channels
    expansion = 9 * h * w * width + 3 * h * height * width
    return 2 * (mixing + expansion) <= 9 * height * width * channels


def upsampled_separable_conv3x3(
    features: Tensor, skip: Tensor, depthwise: Tensor, pointwise: Tensor, bias: Tensor | None
) -> Tensor:
    """Do the same by a depthwise ``(C + S, 1, 3, 3)`` and a pointwise ``(O, C + S, 1, 1)`` weight, without concatenation.

    To mix channels on the coarse grid would not pay: nine products there cost as much as one on the fine grid.
    """
    channels = features.shape[1]
    upsampled = F.interpolate(features, size=skip.shape[-2:], mode='bilinear', align_corners=False)
    spread = F.conv2d(upsampled, depthwise[:channels], padding=1, groups=channels)
    skip = F.conv2d(skip, depthwise[channels:], padding=1, groups=skip.shape[1])
    return F.conv2d(spread, pointwise[:, :channels], bias).add_(F.conv2d(skip, pointwise[:, channels:]))


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
