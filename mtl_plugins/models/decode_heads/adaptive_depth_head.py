"""Depth over bins that the image itself decides (in the spirit of AdaBins, arXiv 2011.14141)."""

from collections.abc import Sequence

from torch import Tensor, nn

from mtl_plugins.errors import ArgumentError
from mtl_plugins.models.decode_heads.bins_depth_head import BinsDepthHead
from mtl_plugins.models.decode_heads.depth_bins import ORDERS, predicted_bin_centres
from mtl_plugins.models.decode_heads.map_head import width_of
from mtl_plugins.models.layers.transformer import GridTokens
from mtl_plugins.registry import MODELS

SOURCES = ('encoder', 'aspp', 'decoder')


@MODELS.register_module()
class AdaptiveDepthHead(BinsDepthHead):
    """Latents pooled from the image to a grid and refined by transformer blocks; each is a bin with a predicted depth.

    The similarity of pixels and bins is computed at the stride of the pixel head, 4 by default: O(B Q K C) time and O(B Q K)
    memory for Q pixels and K bins. The blocks attend among K tokens only.

    Args:
        head: See :class:`BinsDepthHead`, like ``in_channels``, ``out_channels`` and ``depth_range``.
        in_channels: See there.
        out_channels: 1.
        num_bins: Number of bins, a square.
        channels: Width of pixel features, queries and latents.
        latents: Where the latents are pooled from: ``'encoder'``, the coarsest features; ``'aspp'``, the pixel head's context,
            which then needs an ASPP; ``'decoder'``, its output.
        channel_reducer: How they reach ``channels``: ``'none'``, ``'linear'`` or ``'conv'``, see :class:`GridTokens`.
        num_layers: Number of transformer blocks.
        num_heads: Of their attention.
        expansion: Of their MLP.
        dropout: On attention weights.
        positional_embedding: ``'none'``, ``'learned'`` or ``'sinusoidal'``.
        position_added_to: ``'query'`` or ``'input'``.
        depth_range: See :class:`BinsDepthHead`; MiniScapes' labels reach from 4 to 300 m.
        spacing: See :class:`BinsDepthHead`: on which scale a bin's place is predicted.
        query_stride: See :class:`BinsDepthHead`.
        bin_order: ``'free'``, each bin moves from its start on its own, or ``'ordered'``, they are cells in order; see
            :func:`predicted_bin_centres`.
        init_cfg: As in every mmengine module.

    Raises:
        ArgumentError: If an argument is none of the above, or widths differ without a reducer.
    """

    def __init__(
        self,
        *,
        head: dict,
        in_channels: Sequence[int | None],
        out_channels: int,
        num_bins: int = 256,
        channels: int = 256,
        latents: str = 'decoder',
        channel_reducer: str = 'none',
        num_layers: int = 3,
        num_heads: int = 4,
        expansion: int = 4,
        dropout: float = 0.0,
        positional_embedding: str = 'none',
        position_added_to: str = 'query',
        depth_range: Sequence[float] = (4.0, 300.0),
        spacing: str = 'log',
        query_stride: int = 1,
        bin_order: str = 'free',
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(
            head=head,
            in_channels=in_channels,
            out_channels=out_channels,
            num_bins=num_bins,
            channels=channels,
            depth_range=depth_range,
            spacing=spacing,
            query_stride=query_stride,
            init_cfg=init_cfg,
        )
        if latents not in SOURCES:
            raise ArgumentError(f'`latents` should be one of {list(SOURCES)}. Found {latents!r}.')
        if latents == 'aspp' and getattr(self.head, 'aspp', None) is None:
            raise ArgumentError(f"`latents='aspp'` needs a head with an ASPP (`rates`). Found {dict(head)}.")
        if bin_order not in ORDERS:
            raise ArgumentError(f'`bin_order` should be one of {list(ORDERS)}. Found {bin_order!r}.')
        self.latents = latents
        self.bin_order = bin_order
        widths = dict(aspp=self.head.context_channels, decoder=channels)
        self.tokens = GridTokens(
            widths[latents] if latents in widths else width_of(in_channels, -1),
            num_tokens=num_bins,
            channels=channels,
            reducer=channel_reducer,
            num_layers=num_layers,
            num_heads=num_heads,
            expansion=expansion,
            dropout=dropout,
            positional_embedding=positional_embedding,
            position_added_to=position_added_to,
            name='num_bins',
        )
        self.bin_projection = nn.Linear(channels, 1)

    def bins(self, features: Sequence[Tensor], context: Tensor, pixels: Tensor) -> tuple[Tensor, Tensor]:
        source = dict(encoder=features[-1], aspp=context, decoder=pixels)[self.latents]
        latents_BKC = self.tokens(source)
        raw_BK = self.bin_projection(latents_BKC).squeeze(-1)
        return latents_BKC, predicted_bin_centres(raw_BK, self.scale, self.bin_order)
