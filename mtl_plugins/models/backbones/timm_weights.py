"""Weights of a whole timm model in the names of its feature extractor."""

import sys

from torch import nn

from mtl_plugins.errors import CheckpointError
from mtl_plugins.models.utils.weights import Weights

MARK = '_conv_stem.weight'
OUTSIDE = dict(_conv_stem='conv_stem', _bn0='bn1', _conv_head='conv_head', _bn1='bn2', _fc='classifier')
SQUEEZE = dict(_se_reduce='se.conv_reduce', _se_expand='se.conv_expand')
# timm counts a block's convolutions and normalisations from the first one that it has; a separable block does not expand.
SEPARABLE = dict(_depthwise_conv='conv_dw', _bn1='bn1', _project_conv='conv_pw', _bn2='bn2', **SQUEEZE)
INVERTED = dict(
    _expand_conv='conv_pw', _bn0='bn1', _depthwise_conv='conv_dw', _bn1='bn2', _project_conv='conv_pwl', _bn2='bn3', **SQUEEZE
)


def is_of_efficientnet_pytorch(weights: Weights) -> bool:
    """Return True if the names are those of efficientnet-pytorch."""
    return MARK in weights


def to_timm_weights(weights: Weights, whole: nn.Module, name: str) -> Weights:
    """Rename efficientnet-pytorch's weights, the classifier's included; no value changes.

    It numbers all blocks in one row, timm those of each stage.

    Args:
        weights: Those of the whole network, as in its files.
        whole: timm's network with its classifier; it may lie on the meta device.
        name: timm's name of it.

    Returns:
        The same weights; a name that has no counterpart stays, for the caller to refuse.

    Raises:
        CheckpointError: If ``whole`` is none of timm's EfficientNets with TensorFlow's padding and epsilon. The others have the
            same names and shapes but compute something else.
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


def rename(name: str, known: set[str]) -> str:
    """The feature extractor's name of a whole model's weight, or ``name`` itself where it has none.

    timm's extractors keep the model under ``model``, keep its children as they are, or lift the children of its sequences
    (``stages.0`` becomes ``stages_0``).
    """
    lifted = name.replace('.', '_', 1)
    return next((candidate for candidate in (name, f'model.{name}', lifted) if candidate in known), name)


def to_feature_weights(weights: Weights, network: nn.Module, whole: nn.Module, name: str) -> Weights:
    """Convert weights of ``whole``, in efficientnet-pytorch's or any format that timm reads for it, into weights of ``network``.

    Args:
        weights: Names and shapes as in the file.
        network: The feature extractor.
        whole: The same model with its classifier; it may lie on the meta device.
        name: timm's name of both.

    Returns:
        The weights that ``network`` has, in its names; not those that only ``whole`` has (classifier, stages not built). What
        neither has stays, for the caller to refuse.

    Raises:
        CheckpointError: If timm's conversion fails, or the weights are efficientnet-pytorch's and ``whole`` is another network.
    """
    import timm

    if is_of_efficientnet_pytorch(weights):
        weights = to_timm_weights(weights, whole, name)
    known, all_known = set(network.state_dict()), set(whole.state_dict())
    convert = getattr(sys.modules[timm.models.model_entrypoint(name).__module__], 'checkpoint_filter_fn', None)
    if convert is not None:
        try:
            weights = convert(weights, whole)
        except Exception as error:  # it assumes a format and fails in any way on others
            raise CheckpointError(f'timm cannot convert these weights to {name} ({type(error).__name__}: {error}).') from error
    renamed = {key: rename(key, known) for key in weights}
    return {renamed[key]: value for key, value in weights.items() if renamed[key] in known or key not in all_known}
