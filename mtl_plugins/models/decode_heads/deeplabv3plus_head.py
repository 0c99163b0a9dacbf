"""DeepLabV3 and DeepLabV3+ (Chen et al., arXiv 1706.05587, 1802.02611): ASPP, decoder with its convolution, heads.

Also :class:`LinearHead`, what is left without ASPP and decoder.
"""

from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mtl_plugins.errors import ArgumentError
from mtl_plugins.models.decode_heads.heads import MapHead, width_of
from mtl_plugins.models.layers.functional import (
    factored_is_cheaper,
    factored_upsampled_conv3x3,
    plain_upsampled_conv3x3,
    upsampled_separable_conv3x3,
)
from mtl_plugins.models.layers.squeeze_excitation import squeeze_excitation as build_squeeze_excitation
from mtl_plugins.models.utils.weights import Weights, load_pretrained
from mtl_plugins.registry import MODELS

# Names of the layers of the decoder in the assignment of 2022 and what they are in :class:`DeepLabV3PlusHead`.
ASSIGNMENT_NAMES = {
    **{f'aspp{n + 1}.atrous_convolution': f'aspp.branches.{n}.conv' for n in range(4)},
    **{f'aspp{n + 1}.bn': f'aspp.branches.{n}.norm' for n in range(4)},
    'global_avg_pool.1': 'aspp.pooled_branch.conv',
    'global_avg_pool.2': 'aspp.pooled_branch.norm',
    'conv1': 'aspp.fuse',
    'bn1': 'aspp.fuse_norm',
    'conv2': 'decoder.0.skip.conv',
    'bn2': 'decoder.0.skip.norm',
    'last_conv.0': 'decoder.0.convs.0.conv',
    'last_conv.1': 'decoder.0.convs.0.norm',
    'last_conv.3': 'decoder.0.convs.1.conv',
    'last_conv.4': 'decoder.0.convs.1.norm',
    'last_conv.6': 'predictor',
}


class ConvNormAct(nn.Module):
    """Size-preserving convolution, BatchNorm, ReLU of ``(B, in_channels, H, W)``.

    A separable convolution (Xception, arXiv 1610.02357) is one of each channel alone, :attr:`depthwise`, and a 1x1, the
    :attr:`conv`. As in the paper nothing is between them; mmcv's ``DepthwiseSeparableConvModule`` normalises and activates
    there, too.

    Args:
        bias: Whether the convolution has a bias (redundant before the normalisation, but some published counts include it).
        separable: Whether the convolution is depthwise separable; one of 1x1 stays as it is.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        *,
        dilation: int = 1,
        bias: bool = False,
        norm: type[nn.BatchNorm2d] = nn.BatchNorm2d,
        separable: bool = False,
        relu: bool = True,
    ) -> None:
        super().__init__()
        window = dict(kernel_size=kernel_size, padding=dilation * (kernel_size // 2), dilation=dilation)
        self.depthwise = None
        if separable and kernel_size > 1:
            self.depthwise = nn.Conv2d(in_channels, in_channels, **window, groups=in_channels, bias=False)
            window = dict(kernel_size=1)
        self.conv = nn.Conv2d(in_channels, out_channels, **window, bias=bias)
        self.norm = norm(out_channels)
        self.act = nn.ReLU(inplace=True) if relu else nn.Identity()

    def forward(self, features: Tensor) -> Tensor:
        if self.depthwise is not None:
            features = self.depthwise(features)
        return self.act(self.norm(self.conv(features)))


class GlobalBatchNorm2d(nn.BatchNorm2d):
    """BatchNorm of ``(B, C, 1, 1)`` maps that also trains with one image a batch.

    One value per channel has no variance, and ``nn.BatchNorm2d`` refuses it. This one then normalises by its running
    statistics and leaves them as they are.
    """

    def forward(self, features: Tensor) -> Tensor:
        if self.training and features.numel() == features.shape[1]:
            return F.batch_norm(features, self.running_mean, self.running_var, self.weight, self.bias, False, 0.0, self.eps)
        return super().forward(features)


class ASPP(nn.Module):
    """A 1x1 and dilated 3x3 branches next to the pooled image, mixed by a 1x1.

    ``(B, in_channels, H, W)`` becomes ``(B, out_channels, H, W)``. The last 1x1 has an ordinary weight of
    ``(len(rates) + 2) * out_channels`` input channels, the pooled branch last.

    Args:
        rates: Dilations of the 3x3 branches.
        pooled_relu: Whether the pooled branch ends with a ReLU, as the others do.
        fuse_norm: Whether BatchNorm and ReLU follow the last 1x1, which then has no bias.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int = 256,
        rates: Sequence[int] = (3, 6, 9),
        *,
        separable: bool = False,
        pooled_relu: bool = True,
        fuse_norm: bool = False,
    ) -> None:
        super().__init__()
        if any(rate < 1 for rate in rates):
            raise ArgumentError(f'`rates` should be positive integers. Found {tuple(rates)}.')
        branches = [ConvNormAct(in_channels, out_channels, 1)]
        branches += [ConvNormAct(in_channels, out_channels, 3, dilation=rate, separable=separable) for rate in rates]
        self.branches = nn.ModuleList(branches)
        self.pooled_branch = ConvNormAct(in_channels, out_channels, 1, norm=GlobalBatchNorm2d, relu=pooled_relu)
        self.fuse = nn.Conv2d(out_channels * (len(branches) + 1), out_channels, 1, bias=not fuse_norm)
        self.fuse_norm = nn.BatchNorm2d(out_channels) if fuse_norm else nn.Identity()
        self.fuse_act = nn.ReLU(inplace=True) if fuse_norm else nn.Identity()

    def forward(self, features: Tensor) -> Tensor:
        # The pooled branch is constant over the image: its share of the last 1x1 is one vector per image, added everywhere.
        local_weight, pooled_weight = self.fuse.weight.tensor_split([-self.fuse.out_channels], dim=1)
        local = torch.cat([branch(features) for branch in self.branches], dim=1)
        pooled = self.pooled_branch(features.mean((2, 3), keepdim=True))
        return self.fuse_act(self.fuse_norm(F.conv2d(local, local_weight, self.fuse.bias) + F.conv2d(pooled, pooled_weight)))


class SkipDecoder(nn.Module):
    """Upsample, concatenate the reduced skip, refine by 3x3 convolutions.

    Coarse features ``(B, in_channels, h, w)`` and a skip ``(B, skip_in_channels, H, W)`` become ``(B, C, H, W)``, where C is the
    attribute ``channels``.

    Args:
        skip_channels: Channels to which a 1x1 with bias reduces the skip; None leaves it as it is.
        channels: Width of the 3x3 convolutions.
        num_convs: Number of 3x3 convolutions with bias, BatchNorm and ReLU; 0 gives the concatenation.
        skip_norm: Whether BatchNorm and ReLU follow the 1x1 of the skip, which then has no bias.

    Attributes:
        channels: Width of the result.
        factored_upsampling: Compute the first of them without its upsampled input, which is the same function; None does so
            where it is cheaper.
    """

    factored_upsampling: bool | None = None

    def __init__(
        self,
        in_channels: int,
        skip_in_channels: int,
        *,
        skip_channels: int | None = 48,
        channels: int = 256,
        num_convs: int = 2,
        separable: bool = False,
        skip_norm: bool = False,
    ) -> None:
        super().__init__()
        if num_convs < 0:
            raise ArgumentError(f'`num_convs` should be at least 0. Found {num_convs}.')
        raw = skip_channels is None
        reduction = ConvNormAct if skip_norm else nn.Conv2d
        self.skip = nn.Identity() if raw else reduction(skip_in_channels, skip_channels, 1)
        widths = [in_channels + (skip_in_channels if raw else skip_channels), *([channels] * num_convs)]
        self.channels = widths[-1]
        self.convs = nn.ModuleList([ConvNormAct(a, b, 3, bias=True, separable=separable) for a, b in pairwise(widths)])

    def forward(self, features: Tensor, skip: Tensor) -> Tensor:
        skip = self.skip(skip)
        if not self.convs:
            upsampled = F.interpolate(features, size=skip.shape[-2:], mode='bilinear', align_corners=False)
            return torch.cat([upsampled, skip], dim=1)
        first, *others = self.convs
        if first.depthwise is None:
            factored = self.factored_upsampling
            if factored is None:
                factored = factored_is_cheaper(features.shape[1], features.shape[-2:], skip.shape[-2:])
            upsampled_conv3x3 = factored_upsampled_conv3x3 if factored else plain_upsampled_conv3x3
            refined = upsampled_conv3x3(features, skip, first.conv.weight, first.conv.bias)
        else:
            refined = upsampled_separable_conv3x3(features, skip, first.depthwise.weight, first.conv.weight, first.conv.bias)
        refined = first.act(first.norm(refined))
        for conv in others:
            refined = conv(refined)
        return refined


@MODELS.register_module()
class DeepLabV3PlusHead(MapHead):
    """ASPP on the coarsest features, a decoder with finer skips, a predictor.

    The predictor runs at the finest skip's stride; the tasks upsample. A 1x1 convolution and bilinear upsampling commute, so
    for a 1x1 this is the same function as predicting after the upsampling, at a sixteenth of the cost.

    Args:
        channels: Width of the ASPP and of the embedding.
        rates: Dilations of the ASPP branches; None leaves the ASPP out: the decoder then starts from the coarsest features.
        skip_indices: Which maps of the pyramid are skips, from coarse to fine; 2 is the one at stride 8, 1 at 4, 0 at 2.
        skip_channels: Channels to which a skip is reduced, one number or one for each; None leaves it as it is.
        decoder_channels: Width of the decoder's stages, one number or one for each skip; ``channels`` by default.
        num_convs: Number of 3x3 convolutions after each skip. With 0, the predictor is a 3x3 convolution of the concatenation;
            else it is a 1x1.
        squeeze_excitation: Factor by which a squeeze-and-excitation (arXiv 1709.01507) of the embedding narrows it; None for
            none.
        aspp_squeeze_excitation: The same for the result of the ASPP.
        num_tasks: Squeeze-and-excitations at each place, see :class:`AttentiveHead`.
        separable: Whether the 3x3 convolutions of ASPP and decoder are depthwise separable, as in the paper.
        pooled_relu: Of the :class:`ASPP`.
        fuse_norm: Of the :class:`ASPP`.
        skip_norm: Of the :class:`SkipDecoder`.
        init_cfg: ``dict(type='Pretrained', checkpoint=..., prefix=...)`` loads all weights below the prefix or none, but not a
            predictor of another number of channels. Names may be those of the decoder in the assignment of 2022,
            ``ASSIGNMENT_NAMES``.

    Raises:
        ArgumentError: If the skips do not go from coarse to fine, the backbone lacks one, there is not one width for each, or
            a squeeze-and-excitation is less than 1 or without ASPP.
    """

    def __init__(
        self,
        *,
        in_channels: Sequence[int | None],
        out_channels: int,
        channels: int = 256,
        rates: Sequence[int] | None = (3, 6, 9),
        skip_indices: Sequence[int] = (1,),
        skip_channels: int | Sequence[int | None] | None = 48,
        decoder_channels: int | Sequence[int] | None = None,
        num_convs: int = 2,
        squeeze_excitation: int | None = None,
        aspp_squeeze_excitation: int | None = None,
        num_tasks: int = 1,
        separable: bool = False,
        pooled_relu: bool = True,
        fuse_norm: bool = False,
        skip_norm: bool = False,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg=init_cfg)
        if not skip_indices or any(coarse <= fine for coarse, fine in pairwise(skip_indices)):
            raise ArgumentError(f'`skip_indices` should descend, from coarse to fine, as (2, 1). Found {tuple(skip_indices)}.')
        if aspp_squeeze_excitation is not None and not rates:
            raise ArgumentError(f'`aspp_squeeze_excitation` needs an ASPP (`rates`). Found {aspp_squeeze_excitation}.')
        widths = dict(skip_channels=skip_channels, decoder_channels=decoder_channels or channels)
        for name, value in widths.items():
            widths[name] = [value] * len(skip_indices) if value is None or isinstance(value, int) else list(value)
            if len(widths[name]) != len(skip_indices):
                raise ArgumentError(
                    f'`{name}` should have one width for each of {len(skip_indices)} skips. Found {widths[name]}.'
                )
        self.skip_indices = tuple(skip_indices)
        coarsest = width_of(in_channels, -1)
        aspp = dict(separable=separable, pooled_relu=pooled_relu, fuse_norm=fuse_norm)
        self.aspp = ASPP(coarsest, channels, rates, **aspp) if rates else None
        self.aspp_squeeze_excitation = build_squeeze_excitation(
            channels, aspp_squeeze_excitation, num_tasks, 'aspp_squeeze_excitation'
        )
        self.context_channels = channels if rates else coarsest
        self.channels, self.decoder = self.context_channels, nn.ModuleList()
        for stage, index in enumerate(skip_indices):
            decoder = SkipDecoder(
                self.channels,
                width_of(in_channels, index),
                skip_channels=widths['skip_channels'][stage],
                channels=widths['decoder_channels'][stage],
                num_convs=num_convs,
                separable=separable,
                skip_norm=skip_norm,
            )
            self.decoder.append(decoder)
            self.channels = decoder.channels
        self.squeeze_excitation = build_squeeze_excitation(self.channels, squeeze_excitation, num_tasks)
        kernel_size = 1 if num_convs else 3
        self.predictor = nn.Conv2d(self.channels, out_channels, kernel_size, padding=kernel_size // 2)

    def init_weights(self) -> None:
        if (self.init_cfg or {}).get('type') != 'Pretrained':
            return super().init_weights()
        self._is_init = True
        source = dict(self.init_cfg)
        load_pretrained(self, source['checkpoint'], prefix=source.get('prefix'), convert=self.convert_weights)

    def convert_weights(self, weights: Weights) -> Weights:
        """Give the weights of a file this head's names, with its own predictor where that of the file has other channels."""
        own = self.state_dict()
        if 'last_conv.0.weight' in weights:
            layers = [(*name.rpartition('.')[::2], value) for name, value in weights.items()]
            weights = {f'{ASSIGNMENT_NAMES.get(layer, layer)}.{name}': value for layer, name, value in layers}
            # Its convolutions have no bias.
            weights |= {name: torch.zeros_like(value) for name, value in own.items() if name.endswith('.conv.bias')}
        if weights.get('predictor.weight', own['predictor.weight']).shape != own['predictor.weight'].shape:
            weights |= {name: value for name, value in own.items() if name.startswith('predictor.')}
        return weights

    def embed(self, features: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        context = embedding = features[-1] if self.aspp is None else self.aspp_squeeze_excitation(self.aspp(features[-1]))
        for stage, index in zip(self.decoder, self.skip_indices, strict=True):
            embedding = stage(embedding, features[index])
        return context, self.squeeze_excitation(embedding)


@MODELS.register_module()
class ASPPHead(MapHead):
    """DeepLabV3: ASPP on the coarsest features and a 1x1 predictor at their stride, without decoder.

    Args are those of :class:`DeepLabV3PlusHead`.
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
        self.aspp = ASPP(width_of(in_channels, -1), channels, rates, separable=separable)
        self.predictor = nn.Conv2d(channels, out_channels, 1)

    def embed(self, features: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        context = self.aspp(features[-1])
        return context, context


@MODELS.register_module()
class LinearHead(MapHead):
    """A 1x1 predictor on one map of the pyramid; with ``channels``, after a 1x1 convolution, BatchNorm and ReLU.

    Args:
        channels: Width of the 1x1 convolution before the predictor, or None for none.
        index: Which map of the pyramid; -1 is the coarsest.
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
