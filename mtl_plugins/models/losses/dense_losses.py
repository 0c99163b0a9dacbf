"""Losses of dense predictions: classes, boundaries, metres and normals.

Each is the mean over the valid pixels of a batch, computed in float32; without one it is exactly 0 with gradient 0.
"""

import math
from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from mtl_plugins.errors import ArgumentError, check_choice
from mtl_plugins.evaluation.functional.scorer import IGNORE_LABEL
from mtl_plugins.models.layers.functional import interpolation_matrix
from mtl_plugins.registry import MODELS

# Upsampled logits that exist at once: what stays in a core's cache, or what fills a GPU.
ELEMENTS_AT_ONCE_CPU = 2**17
ELEMENTS_AT_ONCE_GPU = 2**25
# Predictions below a millimetre count as one: the logarithm stays finite, and so does its slope.
MIN_DEPTH = 1e-3
# Shorter vectors count as this long: the direction of almost nothing has no bounded slope.
MIN_LENGTH = 1e-4


def band(source: int, size: int, start: int, stop: int) -> slice:
    """The coarse positions from which bilinear upsampling of ``source`` to ``size`` makes the fine ones in [start, stop)."""
    first = int(max((start + 0.5) * source / size - 0.5, 0))
    last = int(max((stop - 0.5) * source / size - 0.5, 0)) + 1
    return slice(first, min(last + 1, source))


class _UpsampledCrossEntropy(torch.autograd.Function):
    """Loss and gradient in one pass over bands of rows; saves nothing finer than the logits."""

    @staticmethod
    def forward(ctx, logits: Tensor, target: Tensor, class_weight: Tensor | None) -> Tensor:
        batch, classes, h, w = logits.shape
        height, width = target.shape[-2:]
        rows_Hh = interpolation_matrix(h, height, logits.device, torch.float32)
        columns_Ww = interpolation_matrix(w, width, logits.device, torch.float32)
        elements = ELEMENTS_AT_ONCE_CPU if logits.device.type == 'cpu' else ELEMENTS_AT_ONCE_GPU
        images = max(elements // (classes * height * width), 1)
        rows = min(max(elements // (images * classes * width), 1), height)

        total = logits.new_zeros((), dtype=torch.float32)
        weighted_count = torch.zeros_like(total)
        gradient = torch.zeros(logits.shape, dtype=torch.float32, device=logits.device)
        for first in range(0, batch, images):
            some = slice(first, first + images)
            wide = torch.matmul(logits[some].float().contiguous(), columns_Ww.t())
            wide_gradient = torch.zeros_like(wide)
            for start in range(0, height, rows):
                stop = min(start + rows, height)
                coarse = band(h, height, start, stop)
                expand = rows_Hh[start:stop, coarse]
                labels = target[some, start:stop]
                valid = (labels != IGNORE_LABEL)[:, None]
                classes_of = torch.where(valid, labels[:, None], 0).long()
                log_probabilities = torch.matmul(expand, wide[:, :, coarse]).log_softmax(1)
                log_likelihood = log_probabilities.gather(1, classes_of)
                weight = valid
                if class_weight is not None:
                    weight = class_weight[classes_of] * valid
                    weighted_count += weight.sum()
                total -= (log_likelihood * weight).sum()
                # d loss / d logit = probability - [it is the label's]
                slope = log_probabilities.exp_().scatter_(1, classes_of, log_likelihood.exp() - 1)
                wide_gradient[:, :, coarse] += torch.matmul(expand.t(), slope.mul_(weight))
            gradient[some] = torch.matmul(wide_gradient, columns_Ww)
        if class_weight is None:
            count = (target != IGNORE_LABEL).sum().clamp(min=1)
        else:
            count = torch.where(weighted_count > 0, weighted_count, 1)
        ctx.save_for_backward(gradient.div_(count))
        ctx.logits_dtype = logits.dtype
        return total / count

    @staticmethod
    @once_differentiable
    def backward(ctx, grad_output: Tensor) -> tuple[Tensor, None, None]:
        (gradient,) = ctx.saved_tensors
        return (gradient * grad_output).to(ctx.logits_dtype), None, None


def upsampled_cross_entropy(logits: Tensor, target: Tensor, class_weight: Tensor | None = None) -> Tensor:
    """Mean cross-entropy over the valid pixels of ``target``, of logits upsampled to its size.

    Equals ``cross_entropy(interpolate(logits, target.shape[1:], mode='bilinear', align_corners=False), target, class_weight)`` in
    value and gradient, but never holds the upsampled logits of the batch. A batch with no pixel of a class of positive weight
    gives exactly 0 and gradient 0.

    Args:
        logits: ``(B, C, h, w)``, any floating type; computed in float32.
        target: ``(B, H, W)`` class ids, any integer type; 255 is ignored.
        class_weight: ``(C,)`` float32, at least 0: how much a pixel of each class counts in the mean.

    Raises:
        IndexError: On CPU, if a label is neither a class nor 255.
    """
    with torch.autocast(logits.device.type, enabled=False):
        return _UpsampledCrossEntropy.apply(logits, target, class_weight)


@MODELS.register_module()
class UpsampledCrossEntropyLoss(nn.Module):
    """:func:`upsampled_cross_entropy` of logits ``(B, C, h, w)`` and ids ``(B, H, W)`` as a configured loss.

    Args:
        class_weight: A number per class, at least 0: how much its pixels count in the mean. ``compute_statistics.py`` prints one
            that lifts rare classes.
    """

    name = 'ce'

    def __init__(self, *, class_weight: Sequence[float] | None = None) -> None:
        super().__init__()
        if class_weight is not None and not (all(0 <= weight < math.inf for weight in class_weight) and any(class_weight)):
            raise ArgumentError(f'`class_weight` should be finite numbers of at least 0, not all 0. Found {list(class_weight)}.')
        weight = None if class_weight is None else torch.tensor(class_weight, dtype=torch.float32)
        self.register_buffer('class_weight', weight, persistent=False)

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        return upsampled_cross_entropy(logits, target, self.class_weight)


@MODELS.register_module()
class BalancedBoundaryLoss(nn.Module):
    """Binary cross-entropy in which boundary and other pixels weigh ``w`` and ``1 - w`` (HED, arXiv 1504.06375).

    The weight ``w`` of boundary pixels is the share of the others among the valid pixels of the batch, so that both kinds have
    the same say.
    """

    name = 'bce'

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Loss of logits ``(B, H, W)`` against ``(B, H, W)``: 1 boundary, 0 none, 255 ignored."""
        with torch.autocast(logits.device.type, enabled=False):
            valid = (target != IGNORE_LABEL).float()
            boundary = (target == 1).float()
            count = valid.sum().clamp(min=1)
            weight = 1 - boundary.sum() / count
            weights = (boundary * weight + (1 - boundary) * (1 - weight)) * valid
            return F.binary_cross_entropy_with_logits(logits.float(), boundary, weight=weights, reduction='sum') / count


def silog_loss(
    prediction: Tensor,
    target: Tensor,
    valid_mask: Tensor,
    *,
    lambda_: float = 0.15,
    reduction: Literal['batch', 'image'] = 'batch',
) -> Tensor:
    """Scale-invariant logarithmic error (arXiv 1406.2283) in the form ``sqrt(Var(e) + lambda_ * mean(e)^2)``.

    ``e = log(target) - log(prediction)`` over the valid pixels; the variance is the biased one. The gradient of a perfect
    prediction is 0.

    Args:
        prediction: Metres ``(B, H, W)``, >= 0; clamped to 1 mm.
        target: Metres ``(B, H, W)``; read where valid only.
        valid_mask: Bool ``(B, H, W)``.
        lambda_: 0 ignores a common scale error, 1 is the root mean squared logarithmic error.
        reduction: ``'batch'`` takes the moments over all valid pixels of the batch, ``'image'`` those of each image, and then
            the mean over the images that have a valid pixel.
    """
    with torch.autocast(prediction.device.type, enabled=False):
        log_prediction = torch.where(valid_mask, prediction.float(), 1.0).clamp(min=MIN_DEPTH).log()
        error = torch.where(valid_mask, target.float(), 1.0).log() - log_prediction
        axes = (0, 1, 2) if reduction == 'batch' else (1, 2)
        count = valid_mask.sum(axes, keepdim=True)
        divisor = count.clamp(min=1)
        mean = error.sum(axes, keepdim=True) / divisor
        variance = ((error - mean) * valid_mask).square().sum(axes, keepdim=True) / divisor
        square = variance + lambda_ * mean.square()
        # The slope of a root at 0 is infinite.
        positive = square > 0
        losses = torch.where(positive, torch.where(positive, square, 1.0).sqrt(), 0.0)
        return losses.sum() / (count > 0).sum().clamp(min=1)


@MODELS.register_module()
class SILogLoss(nn.Module):
    """:func:`silog_loss` of metres ``(B, H, W)`` as a configured loss.

    Args:
        lambda_: Share of the squared mean error, in [0, 1].
    """

    name = 'silog'
    space = 'metres'

    def __init__(self, *, lambda_: float = 0.15, reduction: str = 'batch') -> None:
        super().__init__()
        if not 0 <= lambda_ <= 1:
            raise ArgumentError(f'`lambda_` should be in [0, 1]. Found {lambda_}.')
        check_choice('reduction', reduction, ('batch', 'image'))
        self.lambda_ = lambda_
        self.reduction = reduction

    def forward(self, prediction: Tensor, target: Tensor, valid_mask: Tensor) -> Tensor:
        return silog_loss(prediction, target, valid_mask, lambda_=self.lambda_, reduction=self.reduction)


@MODELS.register_module()
class DepthRegressionLoss(nn.Module):
    """Mean absolute or squared difference over the valid pixels of the batch or of each image.

    Prediction and target ``(B, H, W)`` are in the network's representation (normalised metres, log-depth, ...), not in
    metres; the mask is bool.

    Args:
        norm: ``'l1'`` or ``'l2'``.
        reduction: ``'image'`` takes the mean of each image first, and then that over the images that have a valid pixel.
    """

    space = 'representation'

    def __init__(self, *, norm: str = 'l1', reduction: str = 'batch') -> None:
        super().__init__()
        check_choice('norm', norm, ('l1', 'l2'))
        check_choice('reduction', reduction, ('batch', 'image'))
        self.name = norm
        self.reduction = reduction

    def forward(self, prediction: Tensor, target: Tensor, valid_mask: Tensor) -> Tensor:
        with torch.autocast(prediction.device.type, enabled=False):
            error = torch.where(valid_mask, prediction.float() - target.float(), 0.0)
            error = error.abs() if self.name == 'l1' else error.square()
            if self.reduction == 'batch':
                return error.sum() / valid_mask.sum().clamp(min=1)
            count = valid_mask.sum((1, 2))
            return (error.sum((1, 2)) / count.clamp(min=1)).sum() / (count > 0).sum().clamp(min=1)


@MODELS.register_module()
class CosineNormalLoss(nn.Module):
    """Mean of ``1 - cos(prediction, target)`` over the valid pixels of the batch.

    Predictions have any length; one shorter than 1e-4 counts as that long, so that neither value nor slope is ever NaN or
    infinite.
    """

    name = 'cosine'

    def forward(self, prediction: Tensor, target: Tensor, valid_mask: Tensor) -> Tensor:
        """Loss of vectors ``(B, 3, H, W)`` against unit vectors ``(B, 3, H, W)`` where ``valid_mask`` ``(B, H, W)``."""
        with torch.autocast(prediction.device.type, enabled=False):
            prediction = prediction.float()
            length = prediction.square().sum(1).clamp(min=MIN_LENGTH**2).sqrt()
            cosine = (prediction * target).sum(1) / length
            return ((1 - cosine) * valid_mask).sum() / valid_mask.sum().clamp(min=1)
