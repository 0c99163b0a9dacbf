"""Boundaries between regions: a probability per pixel."""

import torch
from torch import Tensor, nn

from mtl_plugins.evaluation.functional.scorer import IGNORE_LABEL
from mtl_plugins.models.tasks.dense_task import DenseTask
from mtl_plugins.registry import MODELS


@MODELS.register_module()
class BoundaryTask(DenseTask):
    """One logit, upsampled to the label's size. Labels are 1 on a boundary, 0 elsewhere, 255 = ignored.

    Test-time views are merged by the ``'mean'`` or the ``'max'`` of their probabilities. The loss of logits and labels
    of one size is :class:`BalancedBoundaryLoss` by default.
    """

    out_channels = 1
    default_loss = 'BalancedBoundaryLoss'
    mergings = ('mean', 'max')

    def valid_mask(self, target: Tensor) -> Tensor:
        return target != IGNORE_LABEL

    def compare(self, criterion: nn.Module, prediction: Tensor, target: Tensor) -> Tensor:
        with torch.autocast(prediction.device.type, enabled=False):
            return criterion(self.upsample(prediction.float(), target.shape[-2:]).squeeze(1), target)

    def predict(self, prediction: Tensor, size: tuple[int, int]) -> Tensor:
        with torch.autocast(prediction.device.type, enabled=False):
            return self.upsample(prediction.float(), size).squeeze(1).sigmoid()

    def view_values(self, output: Tensor, merging: str, zoom: float) -> Tensor:
        return output.squeeze(0).sigmoid()

    def merged_view(self, total: Tensor, num_views: int, merging: str) -> Tensor:
        return total / num_views if merging == 'mean' else total
