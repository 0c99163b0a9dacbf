"""Depth as the expectation over bins: their centres and the weighted sum.

Axes: B batch, C channels, Q pixels, K bins, H W the map.
"""

import math

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from mtl_plugins.errors import ArgumentError
from mtl_plugins.models.layers.clamp import clamp_with_way_back

SPACINGS = ('log', 'linear')
ORDERS = ('free', 'ordered')


class BinScale:
    """Maps positions in [0, 1] to metres within ``depth_range``, linearly or along the logarithm.

    Args:
        depth_range: Least and largest depth, > 0.
        spacing: ``'linear'``, or ``'log'``: equal steps are equal ratios (spacing-increasing discretisation of arXiv 1806.02446).

    Raises:
        ArgumentError: If the range is not two ascending positive numbers or the spacing is neither.
    """

    def __init__(self, depth_range: tuple[float, float], spacing: str) -> None:
        if len(depth_range) != 2 or not 0 < depth_range[0] < depth_range[1] < math.inf:
            raise ArgumentError(f'`depth_range` should be two ascending positive numbers. Found {tuple(depth_range)}.')
        if spacing not in SPACINGS:
            raise ArgumentError(f'`spacing` should be one of {list(SPACINGS)}. Found {spacing!r}.')
        self.depth_range = tuple(depth_range)
        self.spacing = spacing

    def to_metres(self, position: Tensor) -> Tensor:
        nearest, farthest = self.depth_range
        if self.spacing == 'linear':
            return nearest + (farthest - nearest) * position
        return nearest * (position * math.log(farthest / nearest)).exp()


def cell_centres(num_bins: int, device: torch.device | None = None) -> Tensor:
    """``(K,)`` in float32: the centres of K equal cells of [0, 1]."""
    return (torch.arange(num_bins, device=device, dtype=torch.float32) + 0.5) / num_bins


def fixed_bin_centres(num_bins: int, scale: BinScale, device: torch.device | None = None) -> Tensor:
    """``(K,)`` float32 metres, from near to far: the centres, on the scale, of K equal cells that cover the whole range."""
    return scale.to_metres(cell_centres(num_bins, device))


def predicted_bin_centres(raw_BK: Tensor, scale: BinScale, order: str) -> Tensor:
    """``(B, K)`` metres within the range, of unbounded numbers; float32.

    Zeros give the fixed centres, from far to near: tokens of a grid begin at the top of the image. If all bins began at one
    depth, nothing would tell a pixel which one to choose, and training could stay at a constant depth for good.

    ``'free'``: a number moves its bin away from there, by the whole range for 4, and :func:`clamp_with_way_back` stops it at
    the ends: behind a sigmoid, a few large steps left all bins at one end for good. ``'ordered'``: the softmax of the numbers
    gives the widths of cells that cover the range, whose centres are the bins (arXiv 2011.14141).
    """
    raw_BK = raw_BK.float()
    if order == 'free':
        place_BK = 1 - cell_centres(raw_BK.shape[-1], raw_BK.device) + raw_BK / 4
        return scale.to_metres(clamp_with_way_back(place_BK, 0.0, 1.0))
    widths_BK = raw_BK.softmax(-1)
    return scale.to_metres(1 - widths_BK.cumsum(-1) + widths_BK / 2)


class _SoftmaxExpectation(torch.autograd.Function):
    @staticmethod
    def forward(ctx, similarity_BQK: Tensor, depths_BK: Tensor) -> Tensor:
        probabilities_BQK = similarity_BQK.softmax(-1, dtype=torch.float32)
        expected_BQ1 = torch.matmul(probabilities_BQK, depths_BK.unsqueeze(-1))
        ctx.save_for_backward(probabilities_BQK, depths_BK, expected_BQ1)
        ctx.similarity_dtype = similarity_BQK.dtype
        return expected_BQ1

    @staticmethod
    @once_differentiable
    def backward(ctx, grad_BQ1: Tensor) -> tuple[Tensor, Tensor | None]:
        probabilities_BQK, depths_BK, expected_BQ1 = ctx.saved_tensors
        grad_depths_BK = None
        if ctx.needs_input_grad[1]:
            grad_depths_BK = torch.matmul(grad_BQ1.transpose(1, 2), probabilities_BQK).squeeze(1).sum_to_size(depths_BK.shape)
        # d expected / d similarity_k = p_k (depth_k - expected): one matrix the size of the similarity, and no more.
        grad_similarity_BQK = (depths_BK.unsqueeze(1) - expected_BQ1).mul_(probabilities_BQK).mul_(grad_BQ1)
        return grad_similarity_BQK.to(ctx.similarity_dtype), grad_depths_BK


def expected_depth(queries_BCHW: Tensor, latents_BKC: Tensor, depths_BK: Tensor) -> Tensor:
    """``(B, 1, H, W)`` float32 metres: ``softmax_K(query . latent / sqrt(C))`` weighs the bins' depths.

    Softmax and sum are computed in float32 whatever the network's type.

    Args:
        queries_BCHW: What a pixel asks for.
        latents_BKC: What a bin offers; B may be 1.
        depths_BK: Metres of each bin; B may be 1.
    """
    batch, channels, height, width = queries_BCHW.shape
    queries_BQC = queries_BCHW.flatten(2).transpose(1, 2)
    keys_BCK = (latents_BKC * channels**-0.5).transpose(1, 2)
    similarity_BQK = torch.matmul(queries_BQC, keys_BCK)
    with torch.autocast(queries_BCHW.device.type, enabled=False):
        depth_BQ1 = _SoftmaxExpectation.apply(similarity_BQK, depths_BK)
    return depth_BQ1.transpose(1, 2).reshape(batch, 1, height, width)
