"""The least head: a prediction straight from one feature map."""

from collections.abc import Sequence

from torch import Tensor, nn

from mtl_plugins.models.decode_heads.map_head import MapHead, width_of
from mtl_plugins.models.layers.convolution import ConvNormAct
from mtl_plugins.registry import MODELS


@MODELS.register_module()
class LinearHead(MapHead):
    """A 1x1 predictor on one map of the pyramid; with ``channels``, after a 1x1 convolution, BatchNorm and ReLU.

    With the latter it is DeepLabV3+ with ASPP and decoder short-circuited.

    Args:
        in_channels: Widths of the feature pyramid.
        out_channels: Channels of the prediction.
        channels: Width of the 1x1 convolution before the predictor, or None for none.
        index: Which map of the pyramid; -1 is the coarsest.
        init_cfg: As in every mmengine module.

    Raises:
        ValueError: If the backbone does not give that map.
    """

    def __init__(
        self,
        *,
        in_channels: Sequence[int | None],
        out_channels: int,
        channels: int | None = None,
        index: int = -1,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg=init_cfg)
        self.index = index
        width = width_of(in_channels, index)
        self.projection = ConvNormAct(width, channels, 1) if channels else nn.Identity()
        self.context_channels = self.channels = channels or width
        self.predictor = nn.Conv2d(self.channels, out_channels, 1)

    def embed(self, features: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        embedding = self.projection(features[self.index])
        return embedding, embedding
