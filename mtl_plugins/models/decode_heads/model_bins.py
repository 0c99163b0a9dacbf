"""The bins of a model's depth head."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from mtl_plugins.errors import ConfigError
from mtl_plugins.models.decode_heads.bins_depth_head import BinsDepthHead


@dataclass(frozen=True)
class ModelBins:
    """A model, its depth head with bins, and the label whose values the bins are."""

    model: nn.Module
    head: BinsDepthHead
    label: str

    @property
    def value_range(self) -> tuple[float, float]:
        """Least and largest metres of a bin."""
        return self.head.scale.depth_range

    @torch.inference_mode()
    def predict(self, image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Metres ``(H, W)`` and the bins' metres ``(K,)``, in the order of the bins, of an RGB image ``(H, W, 3)`` uint8."""
        inputs = self.model.data_preprocessor(dict(inputs=torch.from_numpy(image)[None]))['inputs']
        seen = []
        handle = self.head.register_forward_pre_hook(lambda _, arguments: seen.append(arguments[0]))
        try:
            metres = self.model.predict_arrays(inputs)[self.label][0]
        finally:
            handle.remove()
        bins = self.head.predict(seen[0])[1][0]
        height, width = image.shape[:2]
        return metres[:height, :width].cpu().numpy(), bins.cpu().numpy()


def find_bins(model: nn.Module) -> ModelBins | None:
    """The first bins inside a model's decode head, None if there are none.

    The head predicts the task whose name stands in its path, as in ``heads.<task>``; without one the model's first task.
    """
    for path, module in model.decode_head.named_modules():
        if isinstance(module, BinsDepthHead):
            task = next((part for part in path.split('.') if part in model.labels), next(iter(model.labels)))
            return ModelBins(model, module, model.labels[task])
    return None


def require_bins(model: nn.Module) -> ModelBins:
    """:func:`find_bins`, where there have to be some.

    Raises:
        ConfigError: If there are none.
    """
    bins = find_bins(model)
    if bins is None:
        raise ConfigError(
            'The model should have a depth head with bins, as AdaptiveDepthHead or FixedBinsDepthHead. Found '
            f'{type(model.decode_head).__name__} without one.'
        )
    return bins
