"""Feature pyramid of a plain vision transformer, from its last map alone (ViTDet, arXiv 2203.16527)."""

from collections.abc import Sequence

import torch.nn.functional as F
from mmengine.model import BaseModule
from torch import Tensor, nn

from mtl_plugins.errors import ArgumentError
from mtl_plugins.registry import MODELS


@MODELS.register_module()
class PlainViTPyramid(BaseModule):
    """Finer maps by transposed convolutions, coarser ones by 2x2 max pooling.

    Each finer map has half the width and twice the height and width of the one before. Unlike ViTDet's, the maps form a
    chain, so that a head that reads the finest leaves no weight without a gradient; the heads reduce the widths themselves. For
    patch size 16 the maps ``finest_index`` to 4 have the strides 4, 8, 16 and 32; the others and their widths are None.

    Args:
        in_channels: Widths of the backbone's five maps, all None but one.
        finest_index: The finest map to make, and the finest that the head reads: 1, 2 or 3.
        pool: Whether to make the coarser maps by pooling. Without it they are the backbone's map itself: the pyramid of a
            network dilated to output stride 16.
    """

    # Takes all five maps of the pyramid, None included; other necks get those that there are.
    reads_pyramid = True

    def __init__(
        self,
        *,
        in_channels: Sequence[int | None],
        finest_index: int = 1,
        pool: bool = True,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg=init_cfg)
        given = [index for index, width in enumerate(in_channels) if width is not None]
        if len(given) != 1:
            raise ArgumentError(f'`in_channels` should have one width, as of a plain transformer. Found {tuple(in_channels)}.')
        if finest_index not in (1, 2, 3):
            raise ArgumentError(f'`finest_index` should be 1, 2 or 3. Found {finest_index}.')
        from torchvision.models.convnext import LayerNorm2d

        self.index, self.pool = given[0], pool
        widths: list[int | None] = list(in_channels)
        # From coarse to fine; a normalisation and an activation between two, as in ViTDet.
        self.upsampling = nn.ModuleList()
        for index in range(self.index - 1, finest_index - 1, -1):
            width = widths[index + 1]
            before = (LayerNorm2d(width, eps=1e-6), nn.GELU()) if self.upsampling else ()
            self.upsampling.append(nn.Sequential(*before, nn.ConvTranspose2d(width, width // 2, kernel_size=2, stride=2)))
            widths[index] = width // 2
        for index in range(self.index + 1, len(widths)):
            widths[index] = widths[self.index]
        self.out_channels = tuple(widths)

    def forward(self, features: Sequence[Tensor | None]) -> tuple[Tensor | None, ...]:
        pyramid = list(features)
        for index, upsample in zip(range(self.index - 1, -1, -1), self.upsampling, strict=False):
            pyramid[index] = upsample(pyramid[index + 1])
        for index in range(self.index + 1, len(pyramid)):
            # ceil_mode: a map of one row keeps it, and odd sizes round as in strided convolutions.
            pyramid[index] = F.max_pool2d(pyramid[index - 1], 2, ceil_mode=True) if self.pool else pyramid[index - 1]
        return tuple(pyramid)
