"""Decoder of DeepLabV3+ (arXiv 1802.02611): coarse features refined by a finer skip."""

from itertools import pairwise

from torch import Tensor, nn

from mtl_plugins.models.layers.conv_norm_act import ConvNormAct
from mtl_plugins.models.layers.upsampled_conv import upsampled_conv3x3, upsampled_separable_conv3x3


class SkipDecoder(nn.Module):
    """Upsample, concatenate the reduced skip, refine by 3x3 convolutions.

    Args:
        in_channels: Channels of the coarse features.
        skip_in_channels: Channels of the skip.
        skip_channels: Channels to which a 1x1 with bias reduces the skip.
        channels: Width of the 3x3 convolutions and of the result.
        num_convs: Number of 3x3 convolutions with bias, BatchNorm and ReLU.
        factored_upsampling: Whether the first of them is computed without its upsampled input, which is the same function;
            None does so where it is cheaper.
        separable: Whether the 3x3 convolutions are depthwise separable. The first is then computed from its upsampled input.

    Raises:
        ValueError: If ``num_convs`` is less than 1, or ``factored_upsampling`` is asked of a separable convolution.
    """

    def __init__(
        self,
        in_channels: int,
        skip_in_channels: int,
        *,
        skip_channels: int = 48,
        channels: int = 256,
        num_convs: int = 2,
        factored_upsampling: bool | None = None,
        separable: bool = False,
    ) -> None:
        super().__init__()
        if num_convs < 1:
            raise ValueError(f'`num_convs` should be at least 1. Found {num_convs}.')
        if separable and factored_upsampling:
            raise ValueError('`factored_upsampling` should be False or None beside `separable=True`. Found True.')
        self.factored_upsampling = factored_upsampling
        self.skip = nn.Conv2d(skip_in_channels, skip_channels, 1)
        widths = [in_channels + skip_channels, *([channels] * num_convs)]
        self.convs = nn.ModuleList([ConvNormAct(a, b, 3, bias=True, separable=separable) for a, b in pairwise(widths)])

    def forward(self, features: Tensor, skip: Tensor) -> Tensor:
        first, *others = self.convs
        skip = self.skip(skip)
        if first.depthwise is None:
            refined = upsampled_conv3x3(features, skip, first.conv.weight, first.conv.bias, factored=self.factored_upsampling)
        else:
            refined = upsampled_separable_conv3x3(features, skip, first.depthwise.weight, first.conv.weight, first.conv.bias)
        refined = first.act(first.norm(refined))
        for conv in others:
            refined = conv(refined)
        return refined
