"""DeepLabV3+ head (arXiv 1802.02611) for one prediction map."""

from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor, nn
from torchvision.ops import SqueezeExcitation

from mtl_plugins.models.decode_heads.map_head import MapHead, width_of
from mtl_plugins.models.layers.aspp import ASPP
from mtl_plugins.models.layers.skip_decoder import SkipDecoder
from mtl_plugins.registry import MODELS


def widths_of_stages(name: str, widths: int | Sequence[int], num_stages: int) -> list[int]:
    """A width for each stage, of one for all or of one for each.

    Raises:
        ValueError: If there are more or fewer; ``name`` is the argument that is blamed.
    """
    widths = [widths] * num_stages if isinstance(widths, int) else list(widths)
    if len(widths) != num_stages:
        raise ValueError(f'`{name}` should have one width for each of {num_stages} skips. Found {widths}.')
    return widths


@MODELS.register_module()
class DeepLabV3PlusHead(MapHead):
    """ASPP on the coarsest features, a decoder with finer skips, a 1x1 predictor.

    The predictor runs at the finest skip's stride; the tasks upsample. A 1x1 convolution and bilinear upsampling commute, so
    this is the same function as predicting after the upsampling, at a sixteenth of the cost.

    Args:
        in_channels: Widths of the feature pyramid.
        out_channels: Channels of the prediction.
        channels: Width of the ASPP and of the embedding.
        rates: Dilations of the ASPP branches; None leaves the ASPP out: the decoder then starts from the coarsest features.
        skip_indices: Which maps of the pyramid are skips, from coarse to fine; 2 is the one at stride 8, 1 at 4, 0 at 2.
        skip_channels: Channels to which a skip is reduced, one number or one for each.
        decoder_channels: Width of the decoder's stages, one number or one for each skip; ``channels`` by default.
        num_convs: Number of 3x3 convolutions after each skip.
        squeeze_excitation: Factor by which a squeeze-and-excitation (arXiv 1709.01507) of the embedding narrows it; None for
            none.
        separable: Whether the 3x3 convolutions of ASPP and decoder are depthwise separable, as in the paper.
        init_cfg: As in every mmengine module.

    Raises:
        ValueError: If the skips do not go from coarse to fine, the backbone lacks one, there is not one width for each, or
            ``squeeze_excitation`` is less than 1.
    """

    def __init__(
        self,
        *,
        in_channels: Sequence[int | None],
        out_channels: int,
        channels: int = 256,
        rates: Sequence[int] | None = (3, 6, 9),
        skip_indices: Sequence[int] = (1,),
        skip_channels: int | Sequence[int] = 48,
        decoder_channels: int | Sequence[int] | None = None,
        num_convs: int = 2,
        squeeze_excitation: int | None = None,
        separable: bool = False,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg=init_cfg)
        if not skip_indices or any(coarse <= fine for coarse, fine in pairwise(skip_indices)):
            raise ValueError(f'`skip_indices` should descend, from coarse to fine, as (2, 1). Found {tuple(skip_indices)}.')
        if squeeze_excitation is not None and squeeze_excitation < 1:
            raise ValueError(f'`squeeze_excitation` should be at least 1 or None. Found {squeeze_excitation}.')
        skip_channels = widths_of_stages('skip_channels', skip_channels, len(skip_indices))
        decoder_channels = widths_of_stages('decoder_channels', decoder_channels or channels, len(skip_indices))
        self.skip_indices = tuple(skip_indices)
        coarsest = width_of(in_channels, -1)
        self.aspp = ASPP(coarsest, channels, tuple(rates), separable=separable) if rates else None
        self.context_channels = channels if rates else coarsest
        self.channels = decoder_channels[-1]
        inputs = [self.context_channels, *decoder_channels]
        self.decoder = nn.ModuleList(
            SkipDecoder(
                inputs[stage],
                width_of(in_channels, index),
                skip_channels=skip_channels[stage],
                channels=decoder_channels[stage],
                num_convs=num_convs,
                separable=separable,
            )
            for stage, index in enumerate(skip_indices)
        )
        self.squeeze_excitation = (
            SqueezeExcitation(self.channels, max(1, self.channels // squeeze_excitation)) if squeeze_excitation else nn.Identity()
        )
        self.predictor = nn.Conv2d(self.channels, out_channels, 1)

    def embed(self, features: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        context = embedding = features[-1] if self.aspp is None else self.aspp(features[-1])
        for stage, index in zip(self.decoder, self.skip_indices, strict=True):
            embedding = stage(embedding, features[index])
        return context, self.squeeze_excitation(embedding)
