"""Attention, blocks, tokens of a grid, and the segmentation heads that use them."""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from mmengine.model import BaseModule
from torch import Tensor, nn

from mtl_plugins.errors import ArgumentError, check_choice
from mtl_plugins.models.decode_heads.deeplabv3plus_head import ASPP, ConvNormAct, SkipDecoder
from mtl_plugins.models.decode_heads.heads import MapHead, build_map_head, width_of
from mtl_plugins.models.utils.build import QuietInit
from mtl_plugins.registry import MODELS


class Attention(nn.Module):
    """``out(softmax(q k^T / sqrt(D)) v)`` with learned projections, by :func:`torch.nn.functional.scaled_dot_product_attention`.

    The fused kernels keep no Q x K matrix: memory is O(B (Q + K) C), time O(B Q K C). With dropout, a CPU falls back to the
    written-out form and its O(B H Q K) memory; so do GPUs without a fused kernel for the type at hand.
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
        """Attend from ``tokens`` ``(B, Q, C)``, with ``position`` added to their queries, to ``context`` ``(B, K, C)``."""
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

    ``expansion`` is the width of the MLP's hidden layer over ``channels``; the tokens of a ``cross`` block attend to another set
    of tokens, which has its own normalisation.
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

    def forward(
        self,
        tokens: Tensor,
        context: Tensor | None = None,
        position: Tensor | None = None,
        input_position: Tensor | None = None,
    ) -> Tensor:
        """``(B, Q, C)`` refined; ``input_position`` is added before the attention projects the normalised tokens."""
        if self.context_norm is not None:
            context = self.context_norm(context)
        normalised = self.norm(tokens)
        if input_position is not None:
            normalised = normalised + input_position
        tokens = tokens + self.attention(normalised, context, position)
        return tokens + self.mlp(tokens)


def sinusoidal_positions(edge: int, channels: int) -> Tensor:
    """``(edge * edge, channels)``: sines and cosines of the row in one half of the channels, of the column in the other.

    Frequencies fall geometrically from 1 towards 1/10000, as in arXiv 1706.03762.
    """
    if channels % 4:
        raise ArgumentError(f'Sinusoidal positions need a multiple of 4 channels. Found {channels}.')
    frequencies = torch.exp(torch.arange(channels // 4) * (-4 * math.log(10000.0) / channels))
    angles = torch.arange(edge)[:, None] * frequencies
    axis = torch.cat([angles.sin(), angles.cos()], dim=1)
    rows, columns = axis[:, None].expand(-1, edge, -1), axis[None].expand(edge, -1, -1)
    return torch.cat([rows, columns], dim=2).reshape(edge * edge, channels)


class PositionalEmbedding(nn.Module):
    """Positions of ``edge`` x ``edge`` tokens, added once to the tokens, or in each block to its input or its queries.

    Args:
        kind: ``'none'``, ``'learned'`` (from a normal distribution with deviation 0.02) or ``'sinusoidal'``.
        added_to: ``'input'`` (to the tokens, once), ``'block_input'`` (to what the attention of each block projects to queries,
            keys and values, which the residual connection leaves out) or ``'query'`` (to the projected queries of each block).
    """

    def __init__(self, kind: str, *, added_to: str, edge: int, channels: int) -> None:
        super().__init__()
        check_choice('positional_embedding', kind, ('none', 'learned', 'sinusoidal'))
        check_choice('position_added_to', added_to, ('query', 'input', 'block_input'))
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

    def forward(self, tokens: Tensor) -> tuple[Tensor, dict[str, Tensor | None]]:
        """Return tokens ``(B, edge * edge, channels)`` for the first block, and the positions for every block, by argument."""
        if self.positions is not None and self.added_to == 'input':
            return tokens + self.positions, {}
        return tokens, {'position' if self.added_to == 'query' else 'input_position': self.positions}


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
        reducer: ``'none'`` (the widths must agree), ``'linear'`` (a projection of the pooled tokens), ``'token_conv'`` (the same
            function as a convolution of width 1) or ``'conv'`` (a 1x1 convolution with BatchNorm and ReLU on the features, before
            the pooling).
        num_layers: Number of transformer blocks.
        positional_embedding: As in :class:`PositionalEmbedding`; so is ``position_added_to``.
        **block: Arguments of each :class:`TransformerBlock`.
    """

    def __init__(
        self,
        in_channels: int,
        *,
        num_tokens: int,
        channels: int,
        reducer: str,
        num_layers: int,
        positional_embedding: str,
        position_added_to: str,
        **block: float,
    ) -> None:
        super().__init__()
        self.edge = max(math.isqrt(max(num_tokens, 0)), 1)
        if self.edge**2 != num_tokens:
            raise ArgumentError(
                f'The number of tokens or bins should be a square, as features are pooled to an n x n grid: {self.edge**2} or '
                f'{(self.edge + 1) ** 2}. Found {num_tokens}.'
            )
        check_choice('channel_reducer', reducer, ('none', 'linear', 'conv', 'token_conv'))
        if reducer == 'none' and in_channels != channels:
            raise ArgumentError(
                f"`channel_reducer` should be 'linear', 'token_conv' or 'conv' where {in_channels} channels become {channels}. "
                "Found 'none'."
            )
        self.conv_reducer = ConvNormAct(in_channels, channels, 1) if reducer == 'conv' else None
        self.linear_reducer = nn.Linear(in_channels, channels) if reducer == 'linear' else None
        self.token_reducer = nn.Conv1d(in_channels, channels, 1) if reducer == 'token_conv' else None
        self.position = PositionalEmbedding(positional_embedding, added_to=position_added_to, edge=self.edge, channels=channels)
        self.blocks = nn.ModuleList(TransformerBlock(channels, **block) for _ in range(num_layers))

    def forward(self, features: Tensor) -> Tensor:
        """Tokens ``(B, N, channels)``, row by row of the grid."""
        if self.conv_reducer is not None:
            features = self.conv_reducer(features)
        pooled = pool_to_grid(features, self.edge).flatten(2)
        tokens = (pooled if self.token_reducer is None else self.token_reducer(pooled)).transpose(1, 2)
        if self.linear_reducer is not None:
            tokens = self.linear_reducer(tokens)
        tokens, positions = self.position(tokens)
        for block in self.blocks:
            tokens = block(tokens, **positions)
        return tokens


@MODELS.register_module()
class TransformerSegHead(MapHead):
    """ASPP pooled to an n x n grid, transformer blocks, back to a map, a decoder with a skip at stride 4, a predictor.

    The mirror of :class:`AdaptiveDepthHead` for classes, with the cost of :class:`GridTokens`.

    Args:
        channels: Width of ASPP, tokens and decoder.
        rates: Dilations of the ASPP branches.
        num_tokens: n^2.
        num_layers: As in :class:`AdaptiveDepthHead`; so are ``num_heads``, ``expansion``, ``dropout``, ``positional_embedding``
            and ``position_added_to``.
        skip_channels: Channels to which the skip is reduced.
        num_convs: Number of 3x3 convolutions in the decoder.
        separable: Whether the 3x3 convolutions of ASPP and decoder are depthwise separable.
    """

    def __init__(
        self,
        *,
        in_channels: Sequence[int | None],
        out_channels: int,
        channels: int = 256,
        rates: Sequence[int] = (3, 6, 9),
        num_tokens: int = 256,
        num_layers: int = 3,
        num_heads: int = 4,
        expansion: int = 4,
        dropout: float = 0.0,
        positional_embedding: str = 'none',
        position_added_to: str = 'query',
        skip_channels: int = 48,
        num_convs: int = 2,
        separable: bool = False,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg=init_cfg)
        self.context_channels = channels
        self.aspp = ASPP(width_of(in_channels, -1), channels, rates, separable=separable)
        self.tokens = GridTokens(
            channels,
            num_tokens=num_tokens,
            channels=channels,
            reducer='none',
            num_layers=num_layers,
            num_heads=num_heads,
            expansion=expansion,
            dropout=dropout,
            positional_embedding=positional_embedding,
            position_added_to=position_added_to,
        )
        self.decoder = SkipDecoder(
            channels,
            width_of(in_channels, 1),
            skip_channels=skip_channels,
            channels=channels,
            num_convs=num_convs,
            separable=separable,
        )
        self.channels = self.decoder.channels
        self.predictor = nn.Conv2d(self.channels, out_channels, 1)

    def embed(self, features: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        tokens = self.tokens(self.aspp(features[-1]))
        context = tokens.transpose(1, 2).unflatten(2, (self.tokens.edge, self.tokens.edge))
        return context, self.decoder(context, features[1])


@MODELS.register_module()
class ClassTokenSegHead(QuietInit, BaseModule):
    """A learned token per class attends to keys; logits are the similarity of tokens and pixels' queries.

    For N classes and Q pixels of the map of keys, cross-attention takes O(B N Q C) time and, fused, O(B Q C) memory, linear in
    the image; there is no attention among pixels. Queries have the resolution of the pixel head: that of its finest skip.

    Args:
        head: Config of a map head, without ``in_channels`` and ``out_channels``.
        out_channels: Number of classes.
        channels: Width of pixel features, queries and tokens.
        num_layers: Number of cross-attention blocks; ``num_heads``, ``expansion`` and ``dropout`` are theirs.
        keys: What the tokens attend to: ``'decoder'``, the pixel features; ``'aspp'``, the context of the pixel head, which then
            needs an ASPP; or ``'encoder'``, the coarsest features. A linear layer takes other widths to ``channels``.
        query_conv: Whether a 1x1 and a 3x3 convolution come between the embedding of the pixel head and the queries. Without
            them the embedding is pixel features and queries at once; only if its width is not ``channels``, the 1x1 remains.
        scale_similarity: Whether the similarity is divided by the square root of ``channels``.
    """

    def __init__(
        self,
        *,
        head: dict,
        in_channels: Sequence[int | None],
        out_channels: int,
        channels: int = 256,
        num_layers: int = 3,
        num_heads: int = 4,
        expansion: int = 4,
        dropout: float = 0.0,
        keys: str = 'decoder',
        query_conv: bool = True,
        scale_similarity: bool = True,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg=init_cfg)
        check_choice('keys', keys, ('encoder', 'aspp', 'decoder'))
        self.keys = keys
        self.scale = channels**-0.5 if scale_similarity else 1.0
        self.head = build_map_head(head, in_channels, channels)
        if keys == 'aspp' and getattr(self.head, 'aspp', None) is None:
            raise ArgumentError(f"`keys='aspp'` needs a head with an ASPP (`rates`). Found {dict(head)}.")
        if not query_conv and self.head.channels == channels:
            self.head.predictor = nn.Identity()
        self.query_conv = nn.Conv2d(channels, channels, 3, padding=1) if query_conv else nn.Identity()
        self.class_tokens = nn.Parameter(torch.randn(out_channels, channels))
        self.blocks = nn.ModuleList(
            TransformerBlock(channels, num_heads=num_heads, expansion=expansion, dropout=dropout, cross=True)
            for _ in range(num_layers)
        )
        widths = dict(aspp=self.head.context_channels, decoder=channels)
        width = widths[keys] if keys in widths else width_of(in_channels, -1)
        self.key_reducer = nn.Linear(width, channels) if width != channels else nn.Identity()

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        context, embedding = self.head.embed(features)
        pixels_BCHW = self.head.predictor(embedding)
        source = dict(encoder=features[-1], aspp=context, decoder=pixels_BCHW)[self.keys]
        keys_BKC = self.key_reducer(source.flatten(2).transpose(1, 2))
        tokens_BNC = self.class_tokens.expand(keys_BKC.shape[0], -1, -1)
        for block in self.blocks:
            tokens_BNC = block(tokens_BNC, keys_BKC)
        queries_BQC = self.query_conv(pixels_BCHW).flatten(2).transpose(1, 2)
        logits_BQN = torch.matmul(queries_BQC, (tokens_BNC * self.scale).transpose(1, 2))
        return logits_BQN.transpose(1, 2).unflatten(2, pixels_BCHW.shape[-2:])
