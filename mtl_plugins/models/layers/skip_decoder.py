"""Decoder of DeepLabV3+ (arXiv 1802.02611): coarse features refined by a finer skip."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mtl_plugins.models.layers.conv_norm_act import ConvNormAct


class SkipDecoder(nn.Module):
    """Upsample, concatenate the reduced skip, refine by 3x3 convolutions.

    Args:
        in_channels: Channels of the coarse features.
        skip_in_channels: Channels of the skip.
        skip_channels: Channels to which a 1x1 with bias reduces the skip.
        channels: Width of the 3x3 convolutions and of the result.
        num_convs: Number of 3x3 convolutions with bias, BatchNorm and ReLU.

    Raises:
        ValueError: If ``num_convs`` is less than 1.
    """

    def __init__(
        self,
        in_channels: int,
        skip_in_channels: int,
        *,
        skip_channels: int = 48,
        channels: int = 256,
        num_convs: int = 2,
    ) -> None:
        super().__init__()
        if num_convs < 1:
            raise ValueError(f'`num_convs` should be at least 1. Found {num_convs}.')
        self.skip = nn.Conv2d(skip_in_channels, skip_channels, 1)
        widths = [in_channels + skip_channels, *([channels] * num_convs)]
        self.convs = nn.ModuleList([ConvNormAct(a, b, 3, bias=True) for a, b in zip(widths, widths[1:], strict=False)])

    def forward(self, features: Tensor, skip: Tensor) -> Tensor:
        upsampled = F.interpolate(features, size=skip.shape[-2:], mode='bilinear', align_corners=False)
        refined = torch.cat([upsampled, self.skip(skip)], dim=1)
        for conv in self.convs:
            refined = conv(refined)
        return refined
