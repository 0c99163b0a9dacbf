"""Any backbone of timm that offers feature maps, and weights of whole models in its names."""

import inspect
import math
import sys

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mtl_plugins.errors import ArgumentError, CheckpointError
from mtl_plugins.models.backbones.timm_folding import avoid_overrun, fix_same_padding, fold_traced_batch_norm
from mtl_plugins.models.utils.weights import PretrainedBackbone, Weights, import_timm, nearest
from mtl_plugins.registry import MODELS

STRIDES = (2, 4, 8, 16, 32)
# Names of efficientnet-pytorch and of timm.
OUTSIDE = dict(_conv_stem='conv_stem', _bn0='bn1', _conv_head='conv_head', _bn1='bn2', _fc='classifier')
SQUEEZE = dict(_se_reduce='se.conv_reduce', _se_expand='se.conv_expand')
# timm counts a block's convolutions and normalisations from the first one that it has; a separable block does not expand.
SEPARABLE = dict(_depthwise_conv='conv_dw', _bn1='bn1', _project_conv='conv_pw', _bn2='bn2', **SQUEEZE)
INVERTED = dict(
    _expand_conv='conv_pw', _bn0='bn1', _depthwise_conv='conv_dw', _bn1='bn2', _project_conv='conv_pwl', _bn2='bn3', **SQUEEZE
)


def to_timm_weights(weights: Weights, whole: nn.Module, name: str) -> Weights:
    """Rename efficientnet-pytorch's weights to those of timm's network ``whole`` of that name; no value changes.

    It numbers all blocks in one row, timm those of each stage. EfficientNets without TensorFlow's padding have the same names.
    """
    if not name.startswith('tf_efficientnet_'):
        raise CheckpointError(
            f"These weights are of efficientnet-pytorch: `name` should be timm's EfficientNet with TensorFlow's padding, such as "
            f"'tf_efficientnet_lite0'. Found {name!r}."
        )
    table = dict(OUTSIDE)
    blocks = [(f'blocks.{i}.{j}', block) for i, stage in enumerate(whole.blocks) for j, block in enumerate(stage)]
    for number, (place, block) in enumerate(blocks):
        parts = INVERTED if hasattr(block, 'conv_pwl') else SEPARABLE
        table |= {f'_blocks.{number}.{old}': f'{place}.{new}' for old, new in parts.items()}
    split = {key: key.rpartition('.') for key in weights}
    return {f'{table.get(owner, owner)}.{leaf}': weights[key] for key, (owner, _, leaf) in split.items()}


def to_feature_weights(weights: Weights, network: nn.Module, whole: nn.Module, name: str) -> Weights:
    """Convert weights of ``whole``, in efficientnet-pytorch's or any format that timm reads for it, into weights of ``network``.

    timm's extractors keep the model under ``model``, keep its children as they are, or lift the children of its sequences
    (``stages.0`` becomes ``stages_0``). Weights that only ``whole`` has (classifier, stages not built) are left out; those that
    neither has stay, for the caller to refuse. A CheckpointError if timm's conversion fails.
    """
    if '_conv_stem.weight' in weights:  # of efficientnet-pytorch
        weights = to_timm_weights(weights, whole, name)
    known, all_known = set(network.state_dict()), set(whole.state_dict())
    convert = getattr(sys.modules[import_timm().models.model_entrypoint(name).__module__], 'checkpoint_filter_fn', None)
    if convert is not None:
        try:
            weights = convert(weights, whole)
        except Exception as error:  # it assumes a format and fails in any way on others
            raise CheckpointError(f'timm cannot convert these weights to {name} ({type(error).__name__}: {error}).') from error
    found = {}
    for key, value in weights.items():
        new = next((candidate for candidate in (key, f'model.{key}', key.replace('.', '_', 1)) if candidate in known), key)
        if new in known or key not in all_known:
            found[new] = value
    return found


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
        if init_cfg and init_cfg.get('checkpoint') == 'timm':
            init_cfg = {**init_cfg, 'checkpoint': f'timm://{name}'}
        super().__init__(init_cfg=init_cfg, description=f'name={name!r}')
        timm = import_timm()
        if not timm.is_model(name):
            raise ArgumentError(f'`name` should be a model of timm. Found {name!r}. {nearest(name, timm.list_models())}')
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
        """Build the model with its classifier, without memory for its weights."""
        try:
            with torch.device('meta'):
                return import_timm().create_model(self.name, pretrained=False, **self.options)
        except (TypeError, ValueError, AssertionError, RuntimeError) as error:
            raise ArgumentError(f'`options` should be arguments of {self.name}. Found {self.options} ({error}).') from error

    def build_features(self, whole: nn.Module, indices: list[int], own_stride: int, output_stride: int | None) -> nn.Module:
        """Build the feature extractor, which accepts any image size where timm lets it."""
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

    def convert_weights(self, weights: Weights) -> Weights:
        if weights and all(key.startswith('network.') for key in weights):
            return weights
        weights = to_feature_weights(weights, self.network, self.build_whole(), self.name)
        return {f'network.{key}': value for key, value in weights.items()}

    def fold_batch_norm(self) -> None:
        """Fold BatchNorm into convolutions in place, for `prepare_for_inference`: timm's children have no order of use."""
        fold_traced_batch_norm(self.network)

    def fix_padding(self, divisor: int) -> None:
        """Prepare for a graph for any size, if the sides of all images are multiples of ``divisor`` and of the stride."""
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
