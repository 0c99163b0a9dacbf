"""Models in 8-bit integers, after their training."""

import logging
import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from mtl_plugins.deployment.description import INPUTS
from mtl_plugins.deployment.exported_model import reason_of
from mtl_plugins.errors import ConfigError


def quantise(model: Any, images: Sequence[np.ndarray], content: str = 'images') -> Any:
    """An ``openvino.Model`` or ONNX ``ModelProto`` whose convolutions and products compute in int8.

    Weights have a scale per channel, activations one per tensor, found on ``images`` (NNCF's post-training quantisation, mixed
    preset with its bias correction). Preparation and decoding stay as they are.

    Args:
        model: In float32; it may be changed.
        images: Inputs of the model, a batch each.
        content: See :class:`Description`.

    Raises:
        ConfigError: If NNCF cannot do it.
        ModuleNotFoundError: If the packages of the extra `deploy` are missing.
    """
    # NNCF reports its use to its makers otherwise. Read when it is imported.
    os.environ.setdefault('NNCF_CI', '1')
    import nncf

    nncf.set_log_level(logging.ERROR)
    name = INPUTS[content]
    try:
        return nncf.quantize(
            model,
            nncf.Dataset(images, lambda image: {name: image}),
            preset=nncf.QuantizationPreset.MIXED,
            subset_size=len(images),
        )
    except Exception as error:
        raise ConfigError(f'NNCF cannot quantise the graph: {reason_of(error)}') from error
