"""Segmentation through self-attention among a grid of tokens."""

from collections.abc import Sequence

from torch import Tensor, nn

from mtl_plugins.models.decode_heads.deeplabv3plus_head import SkipDecoder
from mtl_plugins.models.decode_heads.map_head import MapHead, width_of
from mtl_plugins.models.layers.convolution import ASPP
from mtl_plugins.models.layers.transformer import GridTokens
from mtl_plugins.registry import MODELS


@MODELS.register_module()
class TransformerSegHead(MapHead):
    """ASPP, its features pooled to an n x n grid, transformer blocks, back to a map, a decoder with one skip, a predictor.

    The mirror of :class:`AdaptiveDepthHead` for classes. Attention takes O(B N^2 C) time and, fused, O(B N C) memory for N =
    n^2 tokens, whatever the size of the image.

    Args:
        in_channels: Widths of the feature pyramid.
        out_channels: Channels of the prediction.
        channels: Width of ASPP, tokens and decoder.
        rates: Dilations of the ASPP branches.
        num_tokens: n^2.
        num_layers: Number of transformer blocks.
        num_heads: Of their attention.
        expansion: Of their MLP.
        dropout: On attention weights.
        positional_embedding: ``'none'``, ``'learned'`` or ``'sinusoidal'``.
        position_added_to: ``'query'`` or ``'input'``.
        skip_index: Which map of the pyramid is the skip; 1 is the one at stride 4.
        skip_channels: Channels to which it is reduced.
        num_convs: Number of 3x3 convolutions in the decoder.
        separable: Whether the 3x3 convolutions of ASPP and decoder are depthwise separable.
        init_cfg: As in every mmengine module.
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
        skip_index: int = 1,
        skip_channels: int = 48,
        num_convs: int = 2,
        separable: bool = False,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg=init_cfg)
        self.context_channels = self.channels = channels
        self.skip_index = skip_index
        self.aspp = ASPP(width_of(in_channels, -1), channels, tuple(rates), separable=separable)
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
            width_of(in_channels, skip_index),
            skip_channels=skip_channels,
            channels=channels,
            num_convs=num_convs,
            separable=separable,
        )
        self.predictor = nn.Conv2d(channels, out_channels, 1)

    def embed(self, features: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        tokens = self.tokens(self.aspp(features[-1]))
        context = tokens.transpose(1, 2).unflatten(2, (self.tokens.edge, self.tokens.edge))
        return context, self.decoder(context, features[self.skip_index])
