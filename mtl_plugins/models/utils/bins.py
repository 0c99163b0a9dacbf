"""The bins of a model's depth head."""

import numpy as np
import torch
from torch import nn

from mtl_plugins.errors import ConfigError
from mtl_plugins.models.decode_heads.bins_depth_head import BinsDepthHead


def find_bins_head(model: nn.Module) -> BinsDepthHead:
    """The depth head with bins inside a model's decode head.

    Raises:
        ConfigError: If there is none.
    """
    for module in model.decode_head.modules():
        if isinstance(module, BinsDepthHead):
            return module
    raise ConfigError(
        'The model should have a depth head with bins, as AdaptiveDepthHead or FixedBinsDepthHead. Found '
        f'{type(model.decode_head).__name__} without one.'
    )


@torch.inference_mode()
def predict_bins(model: nn.Module, image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Metres ``(H, W)`` and the bins' metres ``(K,)``, in the order of the bins, of an RGB image ``(H, W, 3)`` uint8."""
    head = find_bins_head(model)
    inputs = model.data_preprocessor(dict(inputs=torch.from_numpy(image)[None]))['inputs']
    seen = []
    handle = head.register_forward_pre_hook(lambda _, arguments: seen.append(arguments[0]))
    try:
        depth = model.predict_arrays(inputs)['depth'][0]
    finally:
        handle.remove()
    bins = head.predict(seen[0])[1][0]
    height, width = image.shape[:2]
    return depth[:height, :width].cpu().numpy(), bins.cpu().numpy()
