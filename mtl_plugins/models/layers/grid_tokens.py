"""A feature map as the tokens of a small square grid, refined by transformer blocks."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mtl_plugins.models.layers.conv_norm_act import ConvNormAct
from mtl_plugins.models.layers.positional_embedding import PositionalEmbedding
from mtl_plugins.models.layers.transformer_block import TransformerBlock

REDUCERS = ('none', 'linear', 'conv')


def grid_edge(num_tokens: int, name: str) -> int:
    """The side of a square grid of ``num_tokens``.

    Raises:
        ValueError: If the number is not a positive square; ``name`` is the argument that is blamed.
    """
    edge = max(math.isqrt(max(num_tokens, 0)), 1)
    if edge * edge != num_tokens:
        raise ValueError(
            f'`{name}` should be a square, as features are pooled to an n x n grid: {edge**2} or {(edge + 1) ** 2}. '
            f'Found {num_tokens}.'
        )
    return edge


def pool_to_grid(features: Tensor, edge: int) -> Tensor:
    """``(B, C, H, W)`` averaged to ``(B, C, edge, edge)``, as ``F.adaptive_avg_pool2d`` does."""
    if not torch.compiler.is_compiling():
        return F.adaptive_avg_pool2d(features, edge)
    # Exporters write down the windows of the size that they see; products are those of any size.
    rows, columns = (_averages(length, edge, features) for length in features.shape[-2:])
    return rows @ features @ columns.t()


def _averages(length: int, edge: int, like: Tensor) -> Tensor:
    """``(edge, length)``: the matrix that averages one axis in ``edge`` windows, which may overlap by one."""
    number = torch.arange(edge, device=like.device)[:, None]
    start, end = number * length // edge, ((number + 1) * length + edge - 1) // edge
    place = torch.arange(length, device=like.device)
    inside = ((place >= start) & (place < end)).to(like.dtype)
    return inside / (end - start)


class GridTokens(nn.Module):
    """``(B, in_channels, H, W)`` averaged to an n x n grid, reduced to ``channels``, through self-attention blocks.

    Attention among N = n^2 tokens takes O(B N^2 C) time and, fused, O(B N C) memory, whatever the size of the image.

    Args:
        in_channels: Width of the features.
        num_tokens: n^2.
        channels: Width of the tokens.
        reducer: ``'none'`` (the widths must agree), ``'linear'`` (a projection of the pooled tokens) or ``'conv'`` (a 1x1
            convolution with BatchNorm and ReLU on the features, before the pooling).
        num_layers: Number of transformer blocks.
        num_heads: As in :class:`TransformerBlock`, like the next two.
        expansion: See there.
        dropout: See there.
        positional_embedding: As in :class:`PositionalEmbedding`, like the next.
        position_added_to: See there.
        name: The argument that stands for ``num_tokens`` in messages.

    Raises:
        ValueError: If the number of tokens is not a square, the reducer is unknown, or it is ``'none'`` and the widths differ.
    """

    def __init__(
        self,
        in_channels: int,
        *,
        num_tokens: int,
        channels: int,
        reducer: str,
        num_layers: int,
        num_heads: int,
        expansion: int,
        dropout: float,
        positional_embedding: str,
        position_added_to: str,
        name: str = 'num_tokens',
    ) -> None:
        super().__init__()
        self.edge = grid_edge(num_tokens, name)
        if reducer not in REDUCERS:
            raise ValueError(f'`channel_reducer` should be one of {list(REDUCERS)}. Found {reducer!r}.')
        if reducer == 'none' and in_channels != channels:
            raise ValueError(
                f"`channel_reducer` should be 'linear' or 'conv' where {in_channels} channels become {channels}. Found 'none'."
            )
        self.conv_reducer = ConvNormAct(in_channels, channels, 1) if reducer == 'conv' else None
        self.linear_reducer = nn.Linear(in_channels, channels) if reducer == 'linear' else None
        self.position = PositionalEmbedding(positional_embedding, added_to=position_added_to, edge=self.edge, channels=channels)
        self.blocks = nn.ModuleList(
            TransformerBlock(channels, num_heads=num_heads, expansion=expansion, dropout=dropout) for _ in range(num_layers)
        )

    def forward(self, features: Tensor) -> Tensor:
        """Tokens ``(B, N, channels)``, row by row of the grid."""
        if self.conv_reducer is not None:
            features = self.conv_reducer(features)
        tokens = pool_to_grid(features, self.edge).flatten(2).transpose(1, 2)
        if self.linear_reducer is not None:
            tokens = self.linear_reducer(tokens)
        tokens, query_position = self.position(tokens)
        for block in self.blocks:
            tokens = block(tokens, position=query_position)
        return tokens
