"""Weights of a whole timm model in the names of its feature extractor."""

import sys

from torch import nn

from mtl_plugins.errors import CheckpointError
from mtl_plugins.models.backbones.efficientnet_weights import is_of_efficientnet_pytorch, to_timm_weights
from mtl_plugins.models.utils.checkpoint import Weights


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
