"""Semantic segmentation by one binary mask per class."""

import math

import torch
from torch import Tensor

from mtl_plugins.errors import ArgumentError
from mtl_plugins.models.tasks.dense_task import DenseTask
from mtl_plugins.registry import MODELS

IGNORED_LABEL = 255


@MODELS.register_module()
class ClassMaskTask(DenseTask):
    """A logit per class and pixel that says whether it is that class; label 0 is what is none of them.

    Class number n, from 0, is label n + 1. A pixel's label is that of the most confident class if its probability is above the
    threshold, else 0: labels mean what those of a :class:`SemSegTask` with ``num_classes`` mean.

    Test-time views are merged by the ``'mean'`` or the ``'max'`` of the probabilities of each class.

    Args:
        num_classes: Number of labels with the background, 2..255.
        threshold: Least probability of a class, in (0, 1).
        absent_prob: Probability with which :meth:`sample_classes` takes a class that the image does not hold.
        loss: Config of a loss on coarse logits and fine binary labels; :class:`UpsampledMaskLoss` by default.
        label: As in :class:`DenseTask`.
        init_cfg: As in every mmengine module.

    Raises:
        ArgumentError: If an argument is out of its range.
    """

    mergings = ('mean', 'max')

    def __init__(
        self,
        *,
        num_classes: int = 6,
        threshold: float = 0.5,
        absent_prob: float = 0.0,
        loss: dict | None = None,
        label: str | None = None,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(label=label, init_cfg=init_cfg)
        if not 2 <= num_classes <= 255:
            raise ArgumentError(f'`num_classes` should be in 2..255. Found {num_classes}.')
        if not 0 < threshold < 1:
            raise ArgumentError(f'`threshold` should be in (0, 1). Found {threshold}.')
        if not 0 <= absent_prob <= 1:
            raise ArgumentError(f'`absent_prob` should be in [0, 1]. Found {absent_prob}.')
        self.num_classes = num_classes
        self.out_channels = num_classes - 1
        self.threshold = threshold
        self.absent_prob = absent_prob
        self.criterion = MODELS.build(loss or dict(type='UpsampledMaskLoss'))
        self.loss_name = f'loss_{self.criterion.name}'

    def sample_classes(self, labels: Tensor) -> Tensor:
        """A class number for each of the label maps ``(B, H, W)``: int64 ``(B,)``, from torch's generator.

        Each class that the map holds is equally probable. With ``absent_prob``, and always where the map holds none, it is one
        that the map does not hold; where it holds all, always one of them.
        """
        present = torch.stack([(labels == number + 1).flatten(1).any(1) for number in range(self.out_channels)], dim=1)
        absent = ~present
        weights = (1 - self.absent_prob) * present / present.sum(1, keepdim=True).clamp(min=1)
        weights = weights + self.absent_prob * absent / absent.sum(1, keepdim=True).clamp(min=1)
        # Where the only kind that an image has is never drawn, all of that kind are alike.
        weights = torch.where(weights.sum(1, keepdim=True) > 0, weights, 1.0)
        return torch.multinomial(weights, 1).squeeze(1)

    @staticmethod
    def mask_of(labels: Tensor, classes: Tensor) -> Tensor:
        """Binary labels ``(B, H, W)``, uint8, of one class number ``(B,)`` per label map; ignored pixels stay 255."""
        mask = (labels == (classes + 1).view(-1, 1, 1)).to(torch.uint8)
        return mask.masked_fill_(labels == IGNORED_LABEL, IGNORED_LABEL)

    def loss(self, prediction: Tensor, target: Tensor) -> Tensor:
        return self.criterion(prediction, target)

    def valid_mask(self, target: Tensor) -> Tensor:
        return target != IGNORED_LABEL

    def predict(self, prediction: Tensor, size: tuple[int, int]) -> Tensor:
        """uint8 labels of the logits of all classes ``(B, out_channels, h, w)``, image by image."""
        least = math.log(self.threshold / (1 - self.threshold))
        if torch.compiler.is_compiling():
            # A graph for batches of any size has no loop over their images.
            return self.merge(self.upsample(prediction.float(), size), least).to(torch.uint8)
        labels = prediction.new_empty((len(prediction), *size), dtype=torch.uint8)
        for image, label in zip(prediction, labels, strict=True):
            label.copy_(self.merge(self.upsample(image[None].float(), size)[0], least))
        return labels

    @staticmethod
    def merge(confidences: Tensor, least: float) -> Tensor:
        """The label of the largest of the confidences ``(..., out_channels, H, W)``, 0 where it is not above ``least``."""
        largest, number = confidences.max(-3)
        return (number + 1) * (largest > least)

    def margin(self, output: Tensor) -> Tensor:
        """Between the largest logit and the threshold or the second largest one, whichever is nearer."""
        least = math.log(self.threshold / (1 - self.threshold))
        # A class below the threshold decides nothing.
        largest = output.amax(1)
        threshold = (largest - least).abs()
        if self.out_channels == 1:
            return threshold
        best, second = output.topk(2, dim=1).values.unbind(1)
        return torch.where(largest > least, torch.minimum(threshold, best - second), threshold)

    def view_values(self, output: Tensor, merging: str, zoom: float) -> Tensor:
        """Probabilities ``(out_channels, H, W)``."""
        return output.sigmoid()

    def merged_view(self, total: Tensor, num_views: int, merging: str) -> Tensor:
        """uint8 labels."""
        return self.merge(total, self.threshold * (num_views if merging == 'mean' else 1)).to(torch.uint8)
