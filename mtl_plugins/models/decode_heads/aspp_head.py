"""DeepLabV3 head (arXiv 1706.05587) for one prediction map."""

from collections.abc import Sequence

from torch import Tensor, nn

from mtl_plugins.models.decode_heads.map_head import MapHead, width_of
from mtl_plugins.models.layers.convolution import ASPP
from mtl_plugins.registry import MODELS


@MODELS.register_module()
class ASPPHead(MapHead):
    """ASPP on the coarsest features and a 1x1 predictor at their stride, without decoder.

    Args:
        in_channels: Widths of the feature pyramid.
        out_channels: Channels of the prediction.
        channels: Width of the ASPP.
        rates: Dilations of its branches.
        separable: Whether the 3x3 convolutions among them are depthwise separable.
        init_cfg: As in every mmengine module.
    """

    def __init__(
        self,
        *,
        in_channels: Sequence[int | None],
        out_channels: int,
        channels: int = 256,
        rates: Sequence[int] = (3, 6, 9),
        separable: bool = False,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg=init_cfg)
        self.context_channels = self.channels = channels
        self.aspp = ASPP(width_of(in_channels, -1), channels, tuple(rates), separable=separable)
        self.predictor = nn.Conv2d(channels, out_channels, 1)

    def embed(self, features: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        context = self.aspp(features[-1])
        return context, context
