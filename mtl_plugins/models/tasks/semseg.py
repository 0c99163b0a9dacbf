"""Semantic segmentation: a class per pixel."""

from typing import Any

import torch
from torch import Tensor

from mtl_plugins.errors import ArgumentError
from mtl_plugins.evaluation.functional.scorer import IGNORE_LABEL
from mtl_plugins.models.losses.library_losses import LabelLoss
from mtl_plugins.models.tasks.dense_task import DenseTask
from mtl_plugins.registry import MODELS


@MODELS.register_module()
class SemSegTask(DenseTask):
    """Logits per class; the label of a pixel is its largest upsampled logit.

    Test-time views are merged by their softmax probabilities: the ``'mean'`` or the ``'max'`` of each class.

    Args:
        num_classes: Number of classes, 2 to 255. The softmax of two logits is the sigmoid of their difference, so that two
            classes are binary segmentation.
        loss: Config of a loss on coarse logits and fine labels, :class:`UpsampledCrossEntropyLoss` by default, or of several,
            which are added. Losses of mmseg and torch, ``dict(type='mmseg.DiceLoss', loss_weight=0.5)`` or
            ``dict(type='torch.CrossEntropyLoss')``, see :class:`LabelLoss`. ``class_weight=[...]`` in a loss weighs the classes.
        sampler: Config of a pixel sampler of mmseg, which says which pixels count in losses of mmseg, or None:
            ``dict(type='OHEMPixelSampler', thresh=0.7, min_kept=100000)``.
        **kwargs: ``label``, the name of the label that it learns; by default that of the task.
    """

    default_loss = 'UpsampledCrossEntropyLoss'
    mergings = ('mean', 'max')

    def __init__(
        self,
        *,
        num_classes: int = 19,
        sampler: dict | None = None,
        **kwargs: Any,
    ) -> None:
        self.sampler = sampler
        super().__init__(**kwargs)
        if not 2 <= num_classes <= 255:
            raise ArgumentError(
                f'`num_classes` should be in 2..255: an object and its background are two classes. Found {num_classes}.'
            )
        self.num_classes = self.out_channels = num_classes
        own = [criterion.name for criterion in self.criteria if not isinstance(criterion, LabelLoss)]
        if sampler is not None and own:
            raise ArgumentError(
                f'`sampler` needs losses of mmseg, as mmseg.CrossEntropyLoss. Found `loss` with {", ".join(own)}.'
            )
        for criterion in self.criteria:
            weights = getattr(criterion, 'class_weight', None)
            if weights is not None and len(weights) != num_classes:
                raise ArgumentError(f'`class_weight` should have {num_classes} entries, one per class. Found {len(weights)}.')

    def build_library_loss(self, config: dict) -> LabelLoss:
        return LabelLoss(config, self.sampler)

    def valid_mask(self, target: Tensor) -> Tensor:
        return target != IGNORE_LABEL

    def predict(self, prediction: Tensor, size: tuple[int, int]) -> Tensor:
        """Return class ids ``(B, *size)`` uint8. The upsampled logits of a large batch never exist together."""
        if torch.compiler.is_compiling():
            # A graph for batches of any size has no loop over their images.
            return self.upsample(prediction.float(), size).max(1).indices.to(torch.uint8)
        labels = prediction.new_empty((len(prediction), *size), dtype=torch.uint8)
        at_once = self.images_at_once(prediction, size)
        for images, some in zip(prediction.split(at_once), labels.split(at_once), strict=True):
            # `max` and not `argmax`: many times faster on CPU.
            some.copy_(self.upsample(images.float(), size).max(1).indices)
        return labels

    def margin(self, output: Tensor) -> Tensor:
        best, second = output.topk(2, dim=1).values.unbind(1)
        return best - second

    def view_values(self, output: Tensor, merging: str, zoom: float) -> Tensor:
        return output.softmax(0)

    def merged_view(self, total: Tensor, num_views: int, merging: str) -> Tensor:
        """Return class ids ``(H, W)`` uint8. The mean is largest where the sum is."""
        return total.max(0).indices.to(torch.uint8)
