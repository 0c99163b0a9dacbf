"""What depth heads with bins share: pixels ask, bins answer."""

from abc import abstractmethod
from collections.abc import Sequence

from mmengine.model import BaseModule
from torch import Tensor, nn

from mtl_plugins.errors import ArgumentError
from mtl_plugins.models.decode_heads.depth_bins import BinScale, expected_depth
from mtl_plugins.models.decode_heads.map_head import build_map_head


class BinsDepthHead(BaseModule):
    """Depth in metres at the stride of a pixel head's output or twice that, as the expectation over bins.

    Goes with ``DepthTask(representation='metres')``. The pixel head gives ``channels`` features per pixel, a 3x3 convolution
    turns them into queries, and the softmax of their scaled similarity to the bins' latents weighs the bins' depths.

    Args:
        head: Config of a map head, without ``in_channels`` and ``out_channels``.
        in_channels: Widths of the feature pyramid.
        out_channels: 1.
        num_bins: Number of bins.
        channels: Width of pixel features, queries and latents.
        depth_range: Least and largest metres of a bin.
        spacing: ``'log'`` or ``'linear'``, see :class:`BinScale`.
        query_stride: Stride of the query convolution; 2 compares pixels and bins at half the pixel head's resolution.
        init_cfg: As in every mmengine module.

    Raises:
        ArgumentError: If ``out_channels`` is not 1 (a joint head cannot hold it) or another argument is out of its range.
    """

    depth_representation = 'metres'

    def __init__(
        self,
        *,
        head: dict,
        in_channels: Sequence[int | None],
        out_channels: int,
        num_bins: int,
        channels: int,
        depth_range: Sequence[float],
        spacing: str,
        query_stride: int,
        init_cfg: dict | None,
    ) -> None:
        super().__init__(init_cfg=init_cfg)
        if out_channels != 1:
            raise ArgumentError(
                f'`out_channels` of {type(self).__name__} should be 1, the depth. Found {out_channels}; beside another task, '
                'give it as `task_heads` of a BranchedHead.'
            )
        if query_stride not in (1, 2):
            raise ArgumentError(f'`query_stride` should be 1 or 2. Found {query_stride}.')
        if num_bins < 2:
            raise ArgumentError(f'`num_bins` should be at least 2. Found {num_bins}.')
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
        return expected_depth(self.query_conv(pixels), latents_BKC, depths_BK), depths_BK

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        return self.predict(features)[0]
