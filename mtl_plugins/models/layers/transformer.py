"""Transformer blocks over tokens: attention, positional embedding, tokens of a map."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mtl_plugins.errors import ArgumentError
from mtl_plugins.models.layers.convolution import ConvNormAct


class Attention(nn.Module):
    """``out(softmax(q k^T / sqrt(D)) v)`` with learned projections, by :func:`torch.nn.functional.scaled_dot_product_attention`.

    The fused kernels keep no Q x K matrix: memory is O(B (Q + K) C), time O(B Q K C). With dropout, a CPU falls back to the
    written-out form and its O(B H Q K) memory; so do GPUs without a fused kernel for the type at hand. Measured: four times
    the tokens take 3.3 to 4.1 times the memory fused, 13 to 15 times written out (docs/attention_memory.md).

    Args:
        channels: Width of tokens and projections.
        num_heads: Number of heads; divides ``channels``.
        dropout: Probability that an attention weight is dropped in training.

    Raises:
        ArgumentError: If ``channels`` is not a multiple of ``num_heads`` or ``dropout`` is not in [0, 1).
    """

    def __init__(self, channels: int, *, num_heads: int = 4, dropout: float = 0.0) -> None:
        super().__init__()
        if num_heads < 1 or channels % num_heads:
            raise ArgumentError(f'`num_heads` should divide the {channels} channels. Found {num_heads}.')
        if not 0 <= dropout < 1:
            raise ArgumentError(f'`dropout` should be in [0, 1). Found {dropout}.')
        self.num_heads = num_heads
        self.dropout = dropout
        self.query = nn.Linear(channels, channels)
        self.key = nn.Linear(channels, channels)
        self.value = nn.Linear(channels, channels)
        self.out = nn.Linear(channels, channels)

    def forward(self, tokens: Tensor, context: Tensor | None = None, position: Tensor | None = None) -> Tensor:
        """Attend from ``tokens`` ``(B, Q, C)`` to ``context`` ``(B, K, C)``, by default to themselves.

        Args:
            tokens: Where the queries come from.
            context: Where keys and values come from.
            position: Added to the projected queries, ``(Q, C)`` or ``(B, Q, C)``.
        """
        context = tokens if context is None else context
        query = self.query(tokens)
        if position is not None:
            query = query + position
        query_BHQD, key_BHKD, value_BHKD = (
            projected.unflatten(-1, (self.num_heads, -1)).transpose(1, 2)
            for projected in (query, self.key(context), self.value(context))
        )
        dropout = self.dropout if self.training else 0.0
        mixed_BHQD = F.scaled_dot_product_attention(query_BHQD, key_BHKD, value_BHKD, dropout_p=dropout)
        return self.out(mixed_BHQD.transpose(1, 2).flatten(2))


class TransformerBlock(nn.Module):
    """``x + attention(norm(x))``, then ``x + mlp(norm(x))`` with GELU between the two projections.

    Args:
        channels: Width of the tokens.
        num_heads: Number of attention heads.
        expansion: Width of the MLP's hidden layer over ``channels``.
        dropout: On attention weights.
        cross: Whether the tokens attend to another set of tokens, which gets a normalisation of its own.

    Raises:
        ArgumentError: If ``expansion`` is less than 1 or an argument of :class:`Attention` is out of its range.
    """

    def __init__(
        self, channels: int, *, num_heads: int = 4, expansion: int = 4, dropout: float = 0.0, cross: bool = False
    ) -> None:
        super().__init__()
        if expansion < 1:
            raise ArgumentError(f'`expansion` should be at least 1. Found {expansion}.')
        self.norm = nn.LayerNorm(channels)
        self.context_norm = nn.LayerNorm(channels) if cross else None
        self.attention = Attention(channels, num_heads=num_heads, dropout=dropout)
        hidden = channels * expansion
        self.mlp = nn.Sequential(nn.LayerNorm(channels), nn.Linear(channels, hidden), nn.GELU(), nn.Linear(hidden, channels))

    def forward(self, tokens: Tensor, context: Tensor | None = None, position: Tensor | None = None) -> Tensor:
        """``(B, Q, C)`` refined; ``context`` ``(B, K, C)`` is for a cross block, ``position`` as in :class:`Attention`."""
        assert (context is None) == (self.context_norm is None), 'a cross block, and no other, takes a context'
        if context is not None:
            context = self.context_norm(context)
        tokens = tokens + self.attention(self.norm(tokens), context, position)
        return tokens + self.mlp(tokens)


KINDS = ('none', 'learned', 'sinusoidal')
PLACES = ('query', 'input')


def sinusoidal_positions(edge: int, channels: int) -> Tensor:
    """``(edge * edge, channels)``: sines and cosines of the row in one half of the channels, of the column in the other.

    Frequencies fall geometrically from 1 towards 1/10000, as in arXiv 1706.03762.

    Raises:
        ArgumentError: If ``channels`` is not a multiple of 4.
    """
    if channels % 4:
        raise ArgumentError(f'Sinusoidal positions need a multiple of 4 channels. Found {channels}.')
    frequencies = torch.exp(torch.arange(channels // 4) * (-4 * math.log(10000.0) / channels))
    angles = torch.arange(edge)[:, None] * frequencies
    axis = torch.cat([angles.sin(), angles.cos()], dim=1)
    rows, columns = axis[:, None].expand(-1, edge, -1), axis[None].expand(edge, -1, -1)
    return torch.cat([rows, columns], dim=2).reshape(edge * edge, channels)


class PositionalEmbedding(nn.Module):
    """Holds the positions of ``edge`` x ``edge`` tokens, added to the input of the blocks or to the queries of each.

    Args:
        kind: ``'none'``, ``'learned'`` (from a normal distribution with deviation 0.02) or ``'sinusoidal'``.
        added_to: ``'input'`` (to the tokens, once) or ``'query'`` (to the projected queries of each block).
        edge: Side of the grid.
        channels: Width of the tokens.

    Raises:
        ArgumentError: If ``kind`` or ``added_to`` is none of those.
    """

    def __init__(self, kind: str, *, added_to: str, edge: int, channels: int) -> None:
        super().__init__()
        if kind not in KINDS:
            raise ArgumentError(f'`positional_embedding` should be one of {list(KINDS)}. Found {kind!r}.')
        if added_to not in PLACES:
            raise ArgumentError(f'`position_added_to` should be one of {list(PLACES)}. Found {added_to!r}.')
        if kind == 'none' and added_to != 'query':
            raise ArgumentError(
                f"`position_added_to` should come with a `positional_embedding`. Found {added_to!r} with the embedding 'none'."
            )
        self.added_to = added_to
        if kind == 'learned':
            self.positions = nn.Parameter(torch.randn(edge * edge, channels) * 0.02)
        else:
            positions = sinusoidal_positions(edge, channels) if kind == 'sinusoidal' else None
            self.register_buffer('positions', positions, persistent=False)

    def forward(self, tokens: Tensor) -> tuple[Tensor, Tensor | None]:
        """Tokens for the first block, and what is added to the queries of every block, if anything."""
        if self.positions is None:
            return tokens, None
        if self.added_to == 'input':
            return tokens + self.positions, None
        return tokens, self.positions


REDUCERS = ('none', 'linear', 'conv')


def grid_edge(num_tokens: int, name: str) -> int:
    """The side of a square grid of ``num_tokens``.

    Raises:
        ArgumentError: If the number is not a positive square; ``name`` is the argument that is blamed.
    """
    edge = max(math.isqrt(max(num_tokens, 0)), 1)
    if edge * edge != num_tokens:
        raise ArgumentError(
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
        ArgumentError: If the number of tokens is not a square, the reducer is unknown, or it is ``'none'`` and the widths differ.
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
            raise ArgumentError(f'`channel_reducer` should be one of {list(REDUCERS)}. Found {reducer!r}.')
        if reducer == 'none' and in_channels != channels:
            raise ArgumentError(
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
