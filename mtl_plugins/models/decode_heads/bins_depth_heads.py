"""Depth as the expectation over bins: where the bins are, the weighted sum, the heads, and what a picture of bins needs.

Axes: B batch, C channels, Q pixels, K bins, H W the map.
"""

import math
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from mmengine.model import BaseModule
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from mtl_plugins.errors import ArgumentError, check_choice
from mtl_plugins.models.decode_heads.deeplabv3plus_head import ASPP
from mtl_plugins.models.decode_heads.heads import build_map_head, width_of
from mtl_plugins.models.decode_heads.transformer_heads import GridTokens
from mtl_plugins.models.layers.functional import clamp_with_way_back
from mtl_plugins.models.utils.build import QuietInit
from mtl_plugins.registry import MODELS


class BinScale:
    """Maps positions in [0, 1] to metres within ``depth_range``, linearly or along the logarithm.

    ``spacing='log'``: equal steps are equal ratios (spacing-increasing discretisation of arXiv 1806.02446).
    """

    def __init__(self, depth_range: tuple[float, float], spacing: str) -> None:
        if len(depth_range) != 2 or not 0 < depth_range[0] < depth_range[1] < math.inf:
            raise ArgumentError(f'`depth_range` should be two ascending positive numbers. Found {tuple(depth_range)}.')
        check_choice('spacing', spacing, ('log', 'linear'))
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

    Zeros give the fixed centres, from far to near: tokens of a grid begin at the top of the image. Bins that all began at one
    depth would give pixels nothing to choose from.

    ``'free'``: a number moves its bin away from there, by the whole range for 4, and :func:`clamp_with_way_back` stops it at
    the ends. ``'ordered'``: the softmax of the numbers gives the widths of cells that cover the range, whose centres are the bins
    (arXiv 2011.14141).

    ``'direct'``: the exponential of a number is the metres of its bin, stopped at the ends in the same way; zeros are 1 m. The
    spacing of the scale is ignored.
    """
    raw_BK = raw_BK.float()
    if order == 'direct':
        nearest, farthest = scale.depth_range
        return clamp_with_way_back(raw_BK, math.log(nearest), math.log(farthest)).exp()
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


def expected_depth(
    queries_BCHW: Tensor, latents_BKC: Tensor, depths_BK: Tensor, *, scaled: bool = True, most_likely: bool = False
) -> Tensor:
    """Return ``(B, 1, H, W)`` float32 metres: ``softmax_K(query . latent / sqrt(C))`` weighs the bins' depths.

    Softmax and sum are computed in float32 whatever the network's type. B of latents and of depths may be 1. The similarity is
    divided by ``sqrt(C)`` if ``scaled``. With ``most_likely`` the depth is that of the most similar bin, and the similarity gets
    no gradient.
    """
    batch, channels, height, width = queries_BCHW.shape
    queries_BQC = queries_BCHW.flatten(2).transpose(1, 2)
    keys_BCK = (latents_BKC * channels**-0.5 if scaled else latents_BKC).transpose(1, 2)
    similarity_BQK = torch.matmul(queries_BQC, keys_BCK)
    with torch.autocast(queries_BCHW.device.type, enabled=False):
        if most_likely:
            depth_BQ1 = depths_BK.expand(batch, -1).gather(1, similarity_BQK.argmax(-1)).unsqueeze(-1)
        else:
            depth_BQ1 = _SoftmaxExpectation.apply(similarity_BQK, depths_BK)
    return depth_BQ1.transpose(1, 2).reshape(batch, 1, height, width)


class BinsDepthHead(QuietInit, BaseModule):
    """Depth in metres at the stride of a pixel head's output or twice that, as the expectation over bins.

    Goes with ``DepthTask(representation='metres')``. The pixel head gives ``channels`` features per pixel, a 3x3 convolution
    turns them into queries, and the softmax of their similarity to the bins' latents weighs the bins' depths.
    """

    depth_representation = 'metres'

    def __init__(
        self,
        *,
        head: dict,
        in_channels: Sequence[int | None],
        out_channels: int,
        num_bins: int = 256,
        channels: int = 256,
        depth_range: Sequence[float] = (4.0, 300.0),
        spacing: str = 'log',
        query_stride: int = 1,
        scale_similarity: bool = True,
        decoding: str = 'expectation',
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg=init_cfg)
        if out_channels != 1:
            raise ArgumentError(
                f'`out_channels` of {type(self).__name__} should be 1, the depth. Found {out_channels}. To predict other tasks '
                'too, give it as one of the `task_heads` of a BranchedHead.'
            )
        if query_stride not in (1, 2):
            raise ArgumentError(f'`query_stride` should be 1 or 2. Found {query_stride}.')
        if num_bins < 2:
            raise ArgumentError(f'`num_bins` should be at least 2. Found {num_bins}.')
        check_choice('decoding', decoding, ('expectation', 'argmax'))
        self.scale_similarity = scale_similarity
        self.decoding = decoding
        self.scale = BinScale(tuple(depth_range), spacing)
        self.head = build_map_head(head, in_channels, channels)
        self.query_conv = nn.Conv2d(channels, channels, 3, stride=query_stride, padding=1)

    @abstractmethod
    def bins(self, features: Sequence[Tensor], context: Tensor, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Latents ``(B, K, channels)`` and float32 depths ``(B, K)`` of the bins; B may be 1."""

    def predict(self, features: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Depth ``(B, 1, h, w)`` and the bins' depths ``(B, K)`` or ``(1, K)``, both float32 metres."""
        context, embedding = self.head.embed(features)
        pixels = self.head.predictor(embedding)
        latents_BKC, depths_BK = self.bins(features, context, pixels)
        most_likely = self.decoding == 'argmax' and not self.training
        form = dict(scaled=self.scale_similarity, most_likely=most_likely)
        return expected_depth(self.query_conv(pixels), latents_BKC, depths_BK, **form), depths_BK

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        return self.predict(features)[0]


@MODELS.register_module()
class FixedBinsDepthHead(BinsDepthHead):
    """Bins that stay where they are, over the whole range; pixels are compared with the learned latent of each.

    The discretisation of DORN (arXiv 1806.02446), with a soft sum.

    Args:
        head: Config of a map head, without ``in_channels`` and ``out_channels``.
        out_channels: 1: a joint head cannot hold it.
        num_bins: Number of bins.
        channels: Width of pixel features, queries and latents.
        depth_range: Least and largest metres of a bin; MiniScapes' labels reach from 4 to 300 m.
        spacing: ``'log'`` or ``'linear'``, see :class:`BinScale`.
        query_stride: Stride of the query convolution; 2 compares pixels and bins at half the pixel head's resolution.
        scale_similarity: Whether the similarity of pixels and bins is divided by the square root of ``channels``.
        decoding: ``'expectation'``, the weighted sum, or ``'argmax'``, the depth of the most likely bin. The argmax has no
            gradient: it decides in evaluation only, and training takes the sum.
    """

    def __init__(self, *, num_bins: int = 256, channels: int = 256, **kwargs: Any) -> None:
        super().__init__(num_bins=num_bins, channels=channels, **kwargs)
        self.latents = nn.Parameter(torch.randn(num_bins, channels))

    def bins(self, features: Sequence[Tensor], context: Tensor, pixels: Tensor) -> tuple[Tensor, Tensor]:
        # Not a buffer: a model converted to bfloat16 would round it.
        centres = fixed_bin_centres(len(self.latents), self.scale, self.latents.device)
        return self.latents[None], centres[None]


@MODELS.register_module()
class AdaptiveDepthHead(BinsDepthHead):
    """Depth over bins that the image itself decides (in the spirit of AdaBins, arXiv 2011.14141).

    Latents are pooled from the image to a grid and refined by transformer blocks; each is a bin with a predicted depth. Pixels
    and bins are compared at the stride of the pixel head, 4 by default: O(B Q K C) time and O(B Q K) memory for Q pixels and K
    bins. The blocks attend among K tokens only.

    Args:
        num_bins: Number of bins, a square.
        channels: Width of pixel features, queries and latents.
        latents: Where the latents are pooled from: ``'encoder'``, the coarsest features; ``'aspp'``, the ASPP of the pixel head
            or, if it has none, an ASPP for the latents alone; ``'decoder'``, the pixel head's output.
        channel_reducer: How they reach their width: ``'none'``, ``'linear'``, ``'conv'`` or ``'token_conv'``, see
            :class:`GridTokens`.
        token_channels: Width of the latents in the blocks, ``channels`` by default. The bins' depths are projected from this
            width; a linear layer then takes the latents to ``channels``, where pixels are compared with them.
        num_layers: Number of transformer blocks.
        num_heads: Of their attention.
        expansion: Of their MLP.
        dropout: On attention weights.
        positional_embedding: ``'none'``, ``'learned'`` or ``'sinusoidal'``.
        position_added_to: ``'query'``, ``'input'`` or ``'block_input'``, see :class:`PositionalEmbedding`.
        bin_order: ``'free'``, each bin moves from its start independently; ``'ordered'``, they are cells in order; or
            ``'direct'``, each is predicted without a start. See :func:`predicted_bin_centres`.
        **kwargs: Of :class:`FixedBinsDepthHead`.
    """

    def __init__(
        self,
        *,
        in_channels: Sequence[int | None],
        num_bins: int = 256,
        channels: int = 256,
        latents: str = 'decoder',
        channel_reducer: str = 'none',
        token_channels: int | None = None,
        num_layers: int = 3,
        num_heads: int = 4,
        expansion: int = 4,
        dropout: float = 0.0,
        positional_embedding: str = 'none',
        position_added_to: str = 'query',
        bin_order: str = 'free',
        **kwargs: Any,
    ) -> None:
        super().__init__(in_channels=in_channels, num_bins=num_bins, channels=channels, **kwargs)
        check_choice('latents', latents, ('encoder', 'aspp', 'decoder'))
        check_choice('bin_order', bin_order, ('free', 'ordered', 'direct'))
        self.latents = latents
        self.bin_order = bin_order
        width, widths, self.aspp = token_channels or channels, dict(aspp=self.head.context_channels, decoder=channels), None
        if latents == 'aspp' and getattr(self.head, 'aspp', None) is None:
            self.aspp, widths['aspp'] = ASPP(width_of(in_channels, -1), width), width
        self.tokens = GridTokens(
            widths[latents] if latents in widths else width_of(in_channels, -1),
            num_tokens=num_bins,
            channels=width,
            reducer=channel_reducer,
            num_layers=num_layers,
            num_heads=num_heads,
            expansion=expansion,
            dropout=dropout,
            positional_embedding=positional_embedding,
            position_added_to=position_added_to,
        )
        self.bin_projection = nn.Linear(width, 1)
        self.latent_projection = nn.Linear(width, channels) if width != channels else nn.Identity()

    def bins(self, features: Sequence[Tensor], context: Tensor, pixels: Tensor) -> tuple[Tensor, Tensor]:
        context = context if self.aspp is None else self.aspp(features[-1])
        source = dict(encoder=features[-1], aspp=context, decoder=pixels)[self.latents]
        latents_BKC = self.tokens(source)
        raw_BK = self.bin_projection(latents_BKC).squeeze(-1)
        return self.latent_projection(latents_BKC), predicted_bin_centres(raw_BK, self.scale, self.bin_order)


@dataclass(frozen=True)
class ModelBins:
    """A model, its depth head with bins, and the label that it predicts by them."""

    model: nn.Module
    head: BinsDepthHead
    label: str

    @torch.inference_mode()
    def predict(self, image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Metres ``(H, W)`` and the bins' metres ``(K,)``, in the order of the bins, of an RGB image ``(H, W, 3)`` uint8."""
        inputs = self.model.data_preprocessor(dict(inputs=torch.from_numpy(image)[None]))['inputs']
        seen = []
        handle = self.head.register_forward_pre_hook(lambda _, arguments: seen.append(arguments[0]))
        try:
            metres = self.model.predict_arrays(inputs)[self.label][0]
        finally:
            handle.remove()
        bins = self.head.predict(seen[0])[1][0]
        height, width = image.shape[:2]
        return metres[:height, :width].cpu().numpy(), bins.cpu().numpy()


def find_bins(model: nn.Module) -> ModelBins | None:
    """Find the first bins inside a model's decode head.

    The head predicts the task whose name is in its path, as in ``heads.<task>``; without one the model's first task.
    """
    for path, module in model.decode_head.named_modules():
        if isinstance(module, BinsDepthHead):
            task = next((part for part in path.split('.') if part in model.labels), next(iter(model.labels)))
            return ModelBins(model, module, model.labels[task])
    return None
