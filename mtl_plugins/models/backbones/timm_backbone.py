"""Any backbone of timm that offers feature maps."""

import inspect
import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mtl_plugins.errors import ArgumentError
from mtl_plugins.models.backbones.pretrained_backbone import PretrainedBackbone
from mtl_plugins.models.backbones.timm_folding import avoid_overrun, fix_same_padding, fold_traced_batch_norm
from mtl_plugins.models.backbones.timm_weights import to_feature_weights
from mtl_plugins.models.utils.weights import Weights, check_model_name, import_timm
from mtl_plugins.registry import MODELS

STRIDES = (2, 4, 8, 16, 32)


@MODELS.register_module()
class TimmBackbone(PretrainedBackbone):
    """A timm model without classifier, in the form of :class:`DilatedResNet`.

    The forward pass maps an image ``(B, 3, H, W)`` to five feature maps at stride 2, 4, 8, 16 and 32 of the undilated network;
    ``out_channels`` holds their widths. A map that the network lacks (ConvNeXt's at stride 2) and its width are None. The maps
    are the whole model's activations, without final normalisation; what lies behind the last one is not built.

    A plain vision transformer gives one map, of its last block, at the index nearest to its patch size (3 for 16 and 14):
    :class:`PlainViTPyramid` makes five of it. Images of any size pass, where timm does not bind the network to one.

    Args:
        name: timm's name of the model; its tag, as in ``resnet50.a1_in1k``, says which weights the checkpoint ``'timm'`` means.
        output_stride: 32, 16 or 8, by dilation, which timm offers for convolutional networks; None for the network's own.
        with_stem: Whether to give the feature map at stride 2.
        size_divisor: Images are resized up to the next multiple of it, so that the maps cover them exactly; the data
            preprocessor's pads instead. None means a plain transformer's patch size, else 1; Swin, HRNet and DLA need 32.
        options: Further arguments of the model, such as ``dict(drop_path_rate=0.1)``.
        init_cfg: None, or ``dict(type='Pretrained', checkpoint=..., prefix=None)``, see :class:`PretrainedBackbone`. The
            checkpoint ``'timm'`` is that of ``name``; files of the whole model are converted, those of efficientnet-pytorch too.

    Raises:
        ConfigError: If timm is not installed.
        ArgumentError: If there is no such model, it offers no features, does not take the options, or cannot give the output
            stride or the stem.
    """

    def __init__(
        self,
        *,
        name: str,
        output_stride: int | None = None,
        with_stem: bool = False,
        size_divisor: int | None = None,
        options: dict | None = None,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg=init_cfg)
        check_model_name(name)
        if output_stride not in (None, 32, 16, 8):
            raise ArgumentError(f'`output_stride` should be 8, 16, 32 or None. Found {output_stride}.')
        self.name, self.options = name, dict(options or {})
        whole = self.build_whole()
        strides = [info['reduction'] for info in getattr(whole, 'feature_info', ())]
        is_plain = len(set(strides)) == 1
        # The last map of each stride, by its index in the pyramid.
        source = {round(math.log2(stride)) - 1: i for i, stride in enumerate(strides) if is_plain or stride in STRIDES}
        if not source:
            raise ArgumentError(f'`name` should be a model that offers feature maps. Found {name!r}, which has none.')
        own_stride = strides[source[max(source)]]
        if with_stem and 0 not in source:
            raise ArgumentError(f'`with_stem` should be False for {name}, which has no map at stride 2. Found True.')
        if not with_stem:
            source.pop(0, None)
        self.levels = tuple(sorted(source))
        self.network = self.build_features(whole, [source[level] for level in self.levels], own_stride, output_stride)
        avoid_overrun(self.network)
        self.channels_first = getattr(self.network, 'output_fmt', 'NCHW') != 'NHWC'
        self.output_stride = output_stride or own_stride
        self.size_divisor = size_divisor or (own_stride if is_plain else 1)
        widths = dict(zip(self.levels, self.network.feature_info.channels(), strict=True))
        self.out_channels = tuple(widths.get(level) for level in range(len(STRIDES)))

    def build_whole(self) -> nn.Module:
        """The model with its classifier, without memory for its weights."""
        try:
            with torch.device('meta'):
                return import_timm().create_model(self.name, pretrained=False, **self.options)
        except (TypeError, ValueError, AssertionError, RuntimeError) as error:
            raise ArgumentError(f'`options` should be arguments of {self.name}. Found {self.options} ({error}).') from error

    def build_features(self, whole: nn.Module, indices: list[int], own_stride: int, output_stride: int | None) -> nn.Module:
        """The feature extractor, which accepts any image size where timm lets it."""
        offered = inspect.signature(type(whole).__init__).parameters
        any_size = {key: value for key, value in dict(dynamic_img_size=True, strict_img_size=False).items() if key in offered}
        arguments = dict(pretrained=False, features_only=True, out_indices=tuple(indices), **{**any_size, **self.options})
        create_model = import_timm().create_model
        # timm refuses with errors of any kind, each model in its own way.
        try:
            if output_stride in (None, own_stride):
                return create_model(self.name, **arguments)
            with torch.device('meta'):
                create_model(self.name, **arguments)
        except Exception as error:
            raise ArgumentError(f'`name` should be a model that offers feature maps. Found {self.name!r} ({error}).') from error
        try:
            network = create_model(self.name, output_stride=output_stride, **arguments)
        except Exception as error:
            network, reason = None, error
        else:
            reason = None
        if network is None or network.feature_info.reduction()[-1] != output_stride:
            raise ArgumentError(
                f'`output_stride` of {self.name} should be {own_stride}, the only one it can give. Found {output_stride}.'
            ) from reason
        return network

    def resolve_checkpoint(self, checkpoint: str) -> str:
        return f'timm://{self.name}' if checkpoint == 'timm' else checkpoint

    def convert_weights(self, weights: Weights) -> Weights:
        """Rename the weights of a whole model; those of a run fit as they are."""
        if weights and all(key.startswith('network.') for key in weights):
            return weights
        weights = to_feature_weights(weights, self.network, self.build_whole(), self.name)
        return {f'network.{key}': value for key, value in weights.items()}

    def describe(self) -> str:
        return f'name={self.name!r}'

    def fold_batch_norm(self) -> None:
        """What `prepare_for_inference` does to this part: timm's children need not stand in the order of their use."""
        fold_traced_batch_norm(self.network)

    def fix_padding(self, divisor: int) -> None:
        """What a graph for any size needs; the sides of all images have to be multiples of ``divisor``, else nothing is done."""
        if divisor % self.output_stride == 0:
            fix_same_padding(self.network)

    def forward(self, inputs: Tensor) -> tuple[Tensor | None, ...]:
        size = [-(-length // self.size_divisor) * self.size_divisor for length in inputs.shape[-2:]]
        if size != list(inputs.shape[-2:]):
            inputs = F.interpolate(inputs, size=size, mode='bilinear', align_corners=False)
        maps = self.network(inputs)
        if not self.channels_first:
            maps = [feature.permute(0, 3, 1, 2) for feature in maps]
        features = dict(zip(self.levels, maps, strict=True))
        return tuple(features.get(level) for level in range(len(STRIDES)))
