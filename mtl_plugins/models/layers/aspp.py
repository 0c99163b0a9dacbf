"""Atrous spatial pyramid pooling (DeepLabV3, arXiv 1706.05587)."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mtl_plugins.models.layers.conv_norm_act import ConvNormAct, GlobalBatchNorm2d


class ASPP(nn.Module):
    """A 1x1 and dilated 3x3 branches beside the pooled image, mixed by a 1x1 with bias and without normalisation.

    ``(B, in_channels, H, W)`` becomes ``(B, out_channels, H, W)``. The last 1x1 owns an ordinary weight of
    ``(len(rates) + 2) * out_channels`` input channels, the pooled branch last.

    Args:
        in_channels: Channels in.
        out_channels: Channels of each branch and of the result.
        rates: Dilations of the 3x3 branches.
        separable: Whether these are depthwise separable, as in DeepLabV3+ (arXiv 1802.02611).

    Raises:
        ValueError: If a rate is not positive.
    """

    def __init__(
        self, in_channels: int, out_channels: int = 256, rates: tuple[int, ...] = (3, 6, 9), *, separable: bool = False
    ) -> None:
        super().__init__()
        if any(rate < 1 for rate in rates):
            raise ValueError(f'`rates` should be positive integers. Found {tuple(rates)}.')
        branches = [ConvNormAct(in_channels, out_channels, 1)]
        branches += [ConvNormAct(in_channels, out_channels, 3, dilation=rate, separable=separable) for rate in rates]
        self.branches = nn.ModuleList(branches)
        self.pooled_branch = ConvNormAct(in_channels, out_channels, 1, norm=GlobalBatchNorm2d)
        self.fuse = nn.Conv2d(out_channels * (len(branches) + 1), out_channels, 1)

    def forward(self, features: Tensor) -> Tensor:
        # The pooled branch is constant over the image: its share of the last 1x1 is one vector per image, added everywhere.
        local_weight, pooled_weight = self.fuse.weight.tensor_split([-self.fuse.out_channels], dim=1)
        local = torch.cat([branch(features) for branch in self.branches], dim=1)
        pooled = self.pooled_branch(features.mean((2, 3), keepdim=True))
        return F.conv2d(local, local_weight, self.fuse.bias) + F.conv2d(pooled, pooled_weight)
