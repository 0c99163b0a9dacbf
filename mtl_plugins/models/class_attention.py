"""Segmentation by asking where a class is: attention and head, loss of a mask, task, model."""

import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from mmengine.model import BaseModule
from torch import Tensor, nn

from mtl_plugins.errors import ArgumentError, check_choice
from mtl_plugins.evaluation.functional.scorer import IGNORE_LABEL
from mtl_plugins.models.decode_heads.deeplabv3plus_head import ConvNormAct
from mtl_plugins.models.decode_heads.heads import width_of
from mtl_plugins.models.segmentors.multitask_segmentor import MultiTaskSegmentor
from mtl_plugins.models.tasks.dense_task import DenseTask
from mtl_plugins.registry import MODELS

KINDS = ('scaled_dot', 'dot', 'cosine', 'additive')
# Softmax of a plain cosine is almost flat: no position gets more than e^2 times the weight of another.
INITIAL_COSINE_SCALE = 10.0


class ClassAttention(nn.Module):
    """A class, as a one-hot vector, asks where it is: softmax over positions of the scores of its query with their keys.

    Scores of a query q and a key k:

    * ``'scaled_dot'``: ``q . k / sqrt(D)`` (arXiv 1706.03762).
    * ``'dot'``: ``q . k``.
    * ``'cosine'``: ``s q . k / (|q| |k|)`` with a learned ``s > 0``.
    * ``'additive'``: ``w . tanh(q + k)`` with a learned w (arXiv 1409.0473).

    A bias of query or key would add nothing: the query's weight can express it, and the softmax takes out that of the key.
    """

    def __init__(self, in_channels: int, num_classes: int, *, channels: int = 256, kind: str = 'scaled_dot') -> None:
        super().__init__()
        check_choice('attention', kind, KINDS)
        self.num_classes = num_classes
        self.kind = kind
        self.query = nn.Linear(num_classes, channels, bias=False)
        self.key = nn.Linear(in_channels, channels, bias=False)
        self.value = nn.Linear(in_channels, channels)
        if kind == 'cosine':
            self.log_scale = nn.Parameter(torch.tensor(math.log(INITIAL_COSINE_SCALE)))
        if kind == 'additive':
            self.energy = nn.Linear(channels, 1, bias=False)

    def weigh(self, query_BND: Tensor, features_BPC: Tensor) -> Tensor:
        """The attention ``(B, N, P)``, which sums to 1 over the positions."""
        key_BPD = self.key(features_BPC)
        if self.kind == 'additive':
            scores_BNP = self.energy(torch.tanh(query_BND[:, :, None] + key_BPD[:, None])).squeeze(-1)
        else:
            if self.kind == 'cosine':
                query_BND, key_BPD = F.normalize(query_BND, dim=-1), F.normalize(key_BPD, dim=-1)
            scores_BNP = torch.matmul(query_BND, key_BPD.transpose(1, 2))
        if self.kind == 'scaled_dot':
            scores_BNP = scores_BNP * query_BND.shape[-1] ** -0.5
        elif self.kind == 'cosine':
            scores_BNP = scores_BNP * self.log_scale.exp()
        return scores_BNP.float().softmax(-1).to(features_BPC.dtype)

    def forward(self, features: Tensor, classes: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Attention ``(B, N, H, W)`` of ``classes`` ``(B, N)``, their queries and attended values, each ``(B, N, D)``."""
        features_BPC = features.flatten(2).transpose(1, 2)
        query_BND = self.query(F.one_hot(classes, self.num_classes).to(self.query.weight.dtype))
        attention_BNP = self.weigh(query_BND, features_BPC)
        attended_BND = torch.matmul(attention_BNP, self.value(features_BPC))
        return attention_BNP.unflatten(2, features.shape[-2:]), query_BND, attended_BND


@MODELS.register_module()
class ClassAttentionHead(BaseModule):
    """A class attends to the coarsest features; what it finds goes through a map head that gives one logit per pixel.

    The attended features alone would not say which class was asked for, and what an untrained attention overlooks could never be
    found. So three things go to the map head, mixed by a 1x1 convolution to ``channels``:

    * the features,
    * the features, multiplied by the attention divided by its maximum over the image, and
    * the class's query plus its attended values, normalised, the same vector at every position.

    Finer maps of the pyramid pass unchanged, for map heads with skips. For N classes the encoder runs once, and everything
    behind the attention N times, as one batch of B N.

    Args:
        head: Config of a map head, without ``in_channels`` and ``out_channels``.
        out_channels: Name of the one task and its number of classes.
        channels: Width of queries, keys and values, and of what goes to the map head.
        attention: Kind of the scores, as in :class:`ClassAttention`.
    """

    def __init__(
        self,
        *,
        head: dict,
        in_channels: Sequence[int | None],
        out_channels: dict[str, int],
        channels: int = 256,
        attention: str = 'scaled_dot',
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg=init_cfg)
        if len(out_channels) != 1:
            raise ArgumentError(f'`out_channels` should name one task: the classes are those of one. Found {dict(out_channels)}.')
        self.out_channels = dict(out_channels)
        ((self.task, self.num_classes),) = self.out_channels.items()
        width = width_of(in_channels, -1)
        self.attention = ClassAttention(width, self.num_classes, channels=channels, kind=attention)
        self.norm = nn.LayerNorm(channels)
        # A concatenation, although three smaller products would do: the folding of BatchNorm knows nothing of other summands.
        self.mix = ConvNormAct(2 * width + channels, channels, 1)
        self.head = MODELS.build({**head, 'in_channels': (*in_channels[:-1], channels), 'out_channels': 1})

    def all_classes(self, features: Sequence[Tensor]) -> Tensor:
        """Every class, for each image: int64 ``(B, num_classes)``."""
        # Not `len`, which is a constant of an exported graph.
        return torch.arange(self.num_classes, device=features[-1].device).expand(features[-1].shape[0], -1)

    def attend(self, features: Sequence[Tensor]) -> Tensor:
        """The attention of every class, ``(B, num_classes, H, W)`` on the grid of the coarsest features."""
        return self.attention(features[-1], self.all_classes(features))[0]

    def forward(self, features: Sequence[Tensor], classes: Tensor | None = None) -> dict[str, list[Tensor]]:
        """Return logits ``(B, N, h, w)`` of the masks of the ``classes`` ``(B, N)``, int64; of every class by default."""
        classes = self.all_classes(features) if classes is None else classes
        attention_BNHW, query_BND, attended_BND = self.attention(features[-1], classes)
        weight_BNHW = attention_BNHW / attention_BNHW.amax((2, 3), keepdim=True)
        *finer, repeated = (self.repeat(each, classes.shape[1]) for each in features)
        found = repeated * weight_BNHW.flatten(0, 1)[:, None]
        token = self.norm(query_BND + attended_BND).flatten(0, 1)[:, :, None, None].to(found.dtype)
        conditioned = self.mix(torch.cat([repeated, found, token.expand(-1, -1, *found.shape[-2:])], dim=1))
        logits = self.head([*finer, conditioned])
        return {self.task: [logits.reshape(*classes.shape, *logits.shape[-2:])]}

    @staticmethod
    def repeat(features: Tensor | None, times: int) -> Tensor | None:
        return features if features is None or times == 1 else features.repeat_interleave(times, dim=0)


@MODELS.register_module()
class UpsampledMaskLoss(nn.Module):
    """Mean binary cross-entropy over the valid pixels of the batch, plus ``dice_weight`` times the mean Dice loss of the images.

    The logits are upsampled to the label's size (bilinear, corners not aligned). The Dice loss of an image is ``1 - (2 sum(p y) +
    1) / (sum(p) + sum(y) + 1)`` over its valid pixels, with the probability p and the label y; it does not count where an image
    has no valid pixel. Computed in float32. Nothing valid: exactly 0 with gradient 0.

    Args:
        dice_weight: Weight >= 0 of the Dice loss.
    """

    name = 'mask'

    def __init__(self, *, dice_weight: float = 0.0) -> None:
        super().__init__()
        if dice_weight < 0:
            raise ArgumentError(f'`dice_weight` should not be negative. Found {dice_weight}.')
        self.dice_weight = dice_weight

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Loss of logits ``(B, 1, h, w)`` against labels ``(B, H, W)``: 0, 1 or 255 (ignored)."""
        with torch.autocast(logits.device.type, enabled=False):
            logits = F.interpolate(logits.float(), size=target.shape[-2:], mode='bilinear', align_corners=False).squeeze(1)
            valid = (target != IGNORE_LABEL).float()
            label = (target == 1).float()
            entropy = F.binary_cross_entropy_with_logits(logits, label, weight=valid, reduction='sum')
            loss = entropy / valid.sum().clamp(min=1)
            if self.dice_weight:
                loss = loss + self.dice_weight * self.dice(logits.sigmoid() * valid, label * valid, valid)
            return loss

    @staticmethod
    def dice(probability: Tensor, label: Tensor, valid: Tensor) -> Tensor:
        axes = (1, 2)
        score = (2 * (probability * label).sum(axes) + 1) / (probability.sum(axes) + label.sum(axes) + 1)
        counts = valid.sum(axes) > 0
        return ((1 - score) * counts).sum() / counts.sum().clamp(min=1)


@MODELS.register_module()
class ClassMaskTask(DenseTask):
    """A logit per class and pixel that says whether it is that class; label 0 is what is none of them.

    Class number n, from 0, is label n + 1. A pixel's label is that of the most confident class if its probability is above the
    threshold, else 0. Test-time views are merged by the ``'mean'`` or the ``'max'`` of the probabilities of each class.

    Args:
        num_classes: Number of labels with the background, 2..255.
        threshold: Least probability of a class, in (0, 1).
        absent_prob: Probability with which :meth:`sample_classes` takes a class that the image does not hold.
        **kwargs: ``loss``, :class:`UpsampledMaskLoss` by default, and ``label``, as in :class:`DenseTask`.
    """

    default_loss = 'UpsampledMaskLoss'
    mergings = ('mean', 'max')

    def __init__(self, *, num_classes: int = 6, threshold: float = 0.5, absent_prob: float = 0.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
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

    def find_present(self, labels: Tensor) -> Tensor:
        """Return which classes the label maps ``(B, H, W)`` hold: bool ``(B, out_channels)``."""
        return torch.stack([(labels == number + 1).flatten(1).any(1) for number in range(self.out_channels)], dim=1)

    def losses(self, predictions: Sequence[Tensor], target: Tensor | None) -> dict[str, Tensor]:
        """Return the losses of the masks ``(B, 1, h, w)`` of one class each, or of all classes, ``(B, out_channels, h, w)``.

        In the latter case ``target`` is a label map, and the loss is that of the masks of all classes that an image holds; of the
        first class where it holds none.
        """
        if target is not None and predictions[0].shape[1] > 1:
            present = self.find_present(target)
            present[:, 0] |= ~present.any(1)
            image, number = present.nonzero(as_tuple=True)
            predictions = [prediction[image, number][:, None] for prediction in predictions]
            target = self.mask_of(target[image], number)
        return super().losses(predictions, target)

    def sample_classes(self, labels: Tensor) -> Tensor:
        """A class number for each of the label maps ``(B, H, W)``: int64 ``(B,)``, from torch's generator.

        Each class that the map holds is equally probable. With ``absent_prob``, and always where the map holds none, it is one
        that the map does not hold; where it holds all, always one of them.
        """
        present = self.find_present(labels)
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
        return mask.masked_fill_(labels == IGNORE_LABEL, IGNORE_LABEL)

    def valid_mask(self, target: Tensor) -> Tensor:
        return target != IGNORE_LABEL

    def predict(self, prediction: Tensor, size: tuple[int, int]) -> Tensor:
        """Return labels ``(B, *size)`` uint8 of the logits of all classes ``(B, out_channels, h, w)``, image by image."""
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
        """Return the distance ``(B, H, W)`` of the largest logit to the threshold or the second largest, whichever is nearer."""
        least = math.log(self.threshold / (1 - self.threshold))
        # A class below the threshold decides nothing.
        largest = output.amax(1)
        threshold = (largest - least).abs()
        if self.out_channels == 1:
            return threshold
        best, second = output.topk(2, dim=1).values.unbind(1)
        return torch.where(largest > least, torch.minimum(threshold, best - second), threshold)

    def view_values(self, output: Tensor, merging: str, zoom: float) -> Tensor:
        return output.sigmoid()

    def merged_view(self, total: Tensor, num_views: int, merging: str) -> Tensor:
        return self.merge(total, self.threshold * (num_views if merging == 'mean' else 1)).to(torch.uint8)


@MODELS.register_module()
class ClassConditionalSegmentor(MultiTaskSegmentor):
    """A :class:`MultiTaskSegmentor` whose head, :class:`ClassAttentionHead`, takes the class that is asked for.

    In training each image is asked for one class, which the task samples, and learns its binary mask. Otherwise every image is
    asked for all classes, and the task merges the masks into a label map.

    Args are those of :class:`MultiTaskSegmentor`; ``tasks`` holds one, a :class:`ClassMaskTask`, and there is no
    ``auxiliary_head``.
    """

    only_task = ClassMaskTask

    def build_network(self, backbone: dict, neck: dict | None, decode_head: dict, auxiliary_head: object) -> None:
        if auxiliary_head:
            raise ArgumentError(f'`auxiliary_head` should be None for a model that is asked for classes. Found {auxiliary_head}.')
        super().build_network(backbone, neck, decode_head, None)

    def loss(self, inputs: Tensor, targets: dict[str, Tensor]) -> dict[str, Tensor]:
        ((name, task),) = self.tasks.items()
        label = self.labels[name]
        labels = targets.get(label)
        if labels is None:
            classes, masks = torch.zeros(len(inputs), dtype=torch.int64, device=inputs.device), {}
        else:
            classes = task.sample_classes(labels)
            masks = {label: task.mask_of(labels, classes)}
        return self.losses_of(self.decode_head(self.encode(inputs), classes[:, None]), masks)

    @torch.no_grad()
    def attend(self, inputs: Tensor) -> Tensor:
        """The attention of every class over normalised images: ``(B, num_classes, h, w)``, on the grid of the features."""
        return self.decode_head.attend(self.encode(inputs)).float()
