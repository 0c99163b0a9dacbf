"""Trained models."""

import hashlib
import os

import numpy as np
import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope
from torch import Tensor, nn

from mtl_plugins.errors import ConfigError
from mtl_plugins.models.utils.build import build_from_data
from mtl_plugins.models.utils.weights import load_pretrained, without_training_parts
from mtl_plugins.registry import MODELS
from mtl_plugins.utils.zoo import locate_checkpoint


def load_model(config: Config, checkpoint: str, advice: str | None = None) -> nn.Module:
    """Build the model of a config on the CPU and load the weights of a checkpoint, or of a model of the zoo.

    ``advice``, of a config that is data, says what to do if it is refused; such a model is no larger than the file.

    Raises:
        ConfigError: If the model predicts no labels, or one that is data cannot be built.
        CheckpointError: If the checkpoint does not fit.
    """
    init_default_scope(config.get('default_scope', 'mtl_plugins'))
    if advice is None:
        model = MODELS.build(config.model)
    else:
        most = 2**22 + os.path.getsize(locate_checkpoint(checkpoint))
        model = build_from_data(config.model, f'The model of {checkpoint}', most, advice)
    if not hasattr(model, 'label_names'):
        raise ConfigError(f'The model of {config.filename or checkpoint} should predict labels. Found {type(model).__name__}.')
    load_pretrained(model, checkpoint, convert=lambda weights: without_training_parts(weights, model))
    return model


def checkpoint_digest(checkpoint: str) -> str:
    with open(locate_checkpoint(checkpoint), 'rb') as file:
        return hashlib.file_digest(file, 'sha256').hexdigest()


def to_arrays(maps: Tensor) -> np.ndarray:
    """Return maps ``(N, H, W)`` or ``(N, C, H, W)`` with the channels last; half precision becomes float32."""
    maps = maps.float() if maps.dtype in (torch.float16, torch.bfloat16) else maps
    return (maps if maps.ndim == 3 else maps.permute(0, 2, 3, 1)).contiguous().cpu().numpy()
