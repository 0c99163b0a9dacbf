"""Convolution with normalisation and activation, and the spatial pyramid of them."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mtl_plugins.errors import ArgumentError


class ConvNormAct(nn.Module):
    """Size-preserving convolution, BatchNorm, ReLU.

    A separable convolution (Xception, arXiv 1610.02357) is one of each channel alone, :attr:`depthwise`, and a 1x1, the
    :attr:`conv`. As in the paper nothing stands between them; mmcv's ``DepthwiseSeparableConvModule`` normalises and activates
    there, too.

    Args:
        in_channels: Channels in.
        out_channels: Channels out.
        kernel_size: Odd kernel side.
        dilation: Distance of the kernel's taps.
        bias: Whether the convolution has a bias (redundant before the normalisation, but some published counts include it).
        norm: The normalisation of ``out_channels``; ``nn.BatchNorm2d`` by default.
        separable: Whether the convolution is depthwise separable; one of 1x1 has nothing to separate and stays as it is.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        *,
        dilation: int = 1,
        bias: bool = False,
        norm: type[nn.BatchNorm2d] = nn.BatchNorm2d,
        separable: bool = False,
    ) -> None:
        super().__init__()
        window = dict(kernel_size=kernel_size, padding=dilation * (kernel_size // 2), dilation=dilation)
        self.depthwise = None
        if separable and kernel_size > 1:
            self.depthwise = nn.Conv2d(in_channels, in_channels, **window, groups=in_channels, bias=False)
            window = dict(kernel_size=1)
        self.conv = nn.Conv2d(in_channels, out_channels, **window, bias=bias)
        self.norm = norm(out_channels)
        self.act = nn.ReLU(inplace=True)

    def forward(self, features: Tensor) -> Tensor:
        if self.depthwise is not None:
            features = self.depthwise(features)
        return self.act(self.norm(self.conv(features)))


class GlobalBatchNorm2d(nn.BatchNorm2d):
    """BatchNorm of ``(B, C, 1, 1)`` maps that also trains with one image a batch.

    One value per channel has no variance, and ``nn.BatchNorm2d`` refuses it. This one then normalises by its running
    statistics and leaves them as they are: training and evaluation compute the same function.
    """

    def forward(self, features: Tensor) -> Tensor:
        if self.training and features.numel() == features.shape[1]:
            return F.batch_norm(features, self.running_mean, self.running_var, self.weight, self.bias, False, 0.0, self.eps)
        return super().forward(features)


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
        ArgumentError: If a rate is not positive.
    """

    def __init__(
        self, in_channels: int, out_channels: int = 256, rates: tuple[int, ...] = (3, 6, 9), *, separable: bool = False
    ) -> None:
        super().__init__()
        if any(rate < 1 for rate in rates):
            raise ArgumentError(f'`rates` should be positive integers. Found {tuple(rates)}.')
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
