"""DeepLabV3+ head (arXiv 1802.02611) for one prediction map."""

from collections.abc import Sequence

from mmengine.model import BaseModule
from torch import Tensor, nn

from mtl_plugins.models.layers.aspp import ASPP
from mtl_plugins.models.layers.skip_decoder import SkipDecoder
from mtl_plugins.registry import MODELS


@MODELS.register_module()
class DeepLabV3PlusHead(BaseModule):
    """ASPP on the coarsest features, a decoder with one finer skip, a 1x1 predictor.

    The predictor runs at the skip's stride; the tasks upsample. A 1x1 convolution and bilinear upsampling commute, so this
    is the same function as predicting after the upsampling, at a sixteenth of the cost.

    Args:
        in_channels: Widths of the feature pyramid.
        out_channels: Channels of the prediction.
        channels: Width of ASPP and decoder.
        rates: Dilations of the ASPP branches.
        skip_index: Which map of the pyramid is the skip; 1 is the one at stride 4.
        skip_channels: Channels to which the skip is reduced.
        num_convs: Number of 3x3 convolutions in the decoder.
        init_cfg: As in every mmengine module.
    """

    def __init__(
        self,
        *,
        in_channels: Sequence[int],
        out_channels: int,
        channels: int = 256,
        rates: Sequence[int] = (3, 6, 9),
        skip_index: int = 1,
        skip_channels: int = 48,
        num_convs: int = 2,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg=init_cfg)
        self.skip_index = skip_index
        self.aspp = ASPP(in_channels[-1], channels, tuple(rates))
        self.decoder = SkipDecoder(
            channels, in_channels[skip_index], skip_channels=skip_channels, channels=channels, num_convs=num_convs
        )
        self.predictor = nn.Conv2d(channels, out_channels, 1)

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        return self.predictor(self.decoder(self.aspp(features[-1]), features[self.skip_index]))
