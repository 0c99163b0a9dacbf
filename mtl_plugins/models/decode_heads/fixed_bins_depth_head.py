"""Depth over bins that stay where they are (DORN's discretisation, arXiv 1806.02446, with a soft sum)."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mtl_plugins.models.decode_heads.bins_depth_head import BinsDepthHead
from mtl_plugins.models.decode_heads.depth_bins import fixed_bin_centres
from mtl_plugins.registry import MODELS


@MODELS.register_module()
class FixedBinsDepthHead(BinsDepthHead):
    """Bins at fixed depths over the whole range, each with a learned latent that pixels are compared with.

    Args:
        head: See :class:`BinsDepthHead`, like all but ``init_cfg``.
        in_channels: See there.
        out_channels: 1.
        num_bins: See there.
        channels: See there.
        depth_range: See there; MiniScapes' labels reach from 4 to 300 m.
        spacing: See there.
        query_stride: See there.
        init_cfg: As in every mmengine module.
    """

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
        self.latents = nn.Parameter(torch.randn(num_bins, channels))

    def bins(self, features: Sequence[Tensor], context: Tensor, pixels: Tensor) -> tuple[Tensor, Tensor]:
        # Not a buffer: a model converted to bfloat16 would round it.
        centres = fixed_bin_centres(len(self.latents), self.scale, self.latents.device)
        return self.latents[None], centres[None]
