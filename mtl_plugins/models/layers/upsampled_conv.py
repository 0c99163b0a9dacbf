"""A 3x3 convolution over upsampled features beside a finer skip, without the upsampled features.

Bilinear upsampling, the kernel's shifts and the zero border are linear in each axis, and the channel mixing is linear too, so
they commute: mix channels on the coarse grid (nine products with a ``(C, O)`` matrix), then expand rows and columns by two small
constant matrices. Upsampling by four, that is a sixteenth of the multiplications, and the widest activation is never made.

Axes: B batch, C channels in, O channels out, h w coarse, H W fine, k a tap of the kernel (rows first).
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from mtl_plugins.models.layers.interpolation import shifted_interpolation_matrix


def plain_upsampled_conv3x3(features: Tensor, skip: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """The definition: upsample ``features`` bilinearly to the size of ``skip``, concatenate, convolve with zero border.

    Args:
        features: ``(B, C, h, w)``.
        skip: ``(B, S, H, W)``.
        weight: ``(O, C + S, 3, 3)``.
        bias: ``(O,)`` or None.
    """
    upsampled = F.interpolate(features, size=skip.shape[-2:], mode='bilinear', align_corners=False)
    return F.conv2d(torch.cat([upsampled, skip], dim=1), weight, bias, padding=1)


def factored_upsampled_conv3x3(features: Tensor, skip: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """The same function as :func:`plain_upsampled_conv3x3`, in value and gradient to rounding."""
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
    """Whether the factored form multiplies at most half as often as the plain one: it moves more bytes per product."""
    (h, w), (height, width) = coarse, fine
    mixing = 9 * h * w * channels
    expansion = 9 * h * w * width + 3 * h * height * width
    return 2 * (mixing + expansion) <= 9 * height * width * channels


def upsampled_conv3x3(
    features: Tensor, skip: Tensor, weight: Tensor, bias: Tensor | None, *, factored: bool | None = None
) -> Tensor:
    """:func:`plain_upsampled_conv3x3` by the cheaper way, or by the one that ``factored`` asks for."""
    if factored is None:
        factored = factored_is_cheaper(features.shape[1], features.shape[-2:], skip.shape[-2:])
    return (factored_upsampled_conv3x3 if factored else plain_upsampled_conv3x3)(features, skip, weight, bias)


def upsampled_separable_conv3x3(
    features: Tensor, skip: Tensor, depthwise: Tensor, pointwise: Tensor, bias: Tensor | None
) -> Tensor:
    """A depthwise separable 3x3 convolution, with zero border, over upsampled features beside a finer skip.

    The depthwise part treats each channel alone and the pointwise part sums over them, so that the two sources need no
    concatenation. To mix channels on the coarse grid, as in :func:`factored_upsampled_conv3x3`, would not pay: it takes nine
    products with a ``(C, O)`` matrix there, and one on the fine grid is as cheap.

    Args:
        features: ``(B, C, h, w)``.
        skip: ``(B, S, H, W)``.
        depthwise: ``(C + S, 1, 3, 3)``.
        pointwise: ``(O, C + S, 1, 1)``.
        bias: ``(O,)`` or None.
    """
    channels = features.shape[1]
    upsampled = F.interpolate(features, size=skip.shape[-2:], mode='bilinear', align_corners=False)
    spread = F.conv2d(upsampled, depthwise[:channels], padding=1, groups=channels)
    skip = F.conv2d(skip, depthwise[channels:], padding=1, groups=skip.shape[1])
    return F.conv2d(spread, pointwise[:, :channels], bias).add_(F.conv2d(skip, pointwise[:, channels:]))
