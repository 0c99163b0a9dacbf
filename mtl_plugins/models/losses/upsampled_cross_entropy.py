"""Cross-entropy of coarse logits against a finer label map, without the upsampled logits of the batch."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from mtl_plugins.errors import ArgumentError
from mtl_plugins.models.layers.interpolation import interpolation_matrix
from mtl_plugins.registry import MODELS

# Upsampled logits that exist at once: what stays in a core's cache, or what fills a GPU.
ELEMENTS_AT_ONCE_CPU = 2**17
ELEMENTS_AT_ONCE_GPU = 2**25


def band(source: int, size: int, start: int, stop: int) -> slice:
    """The coarse positions from which bilinear upsampling of ``source`` to ``size`` makes the fine ones in [start, stop)."""
    first = int(max((start + 0.5) * source / size - 0.5, 0))
    last = int(max((stop - 0.5) * source / size - 0.5, 0)) + 1
    return slice(first, min(last + 1, source))


class _UpsampledCrossEntropy(torch.autograd.Function):
    """Loss and gradient in one pass over bands of rows; saves nothing finer than the logits."""

    @staticmethod
    def forward(ctx, logits: Tensor, target: Tensor, ignore_index: int, class_weight: Tensor | None) -> Tensor:
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
                valid = (labels != ignore_index)[:, None]
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
            count = (target != ignore_index).sum().clamp(min=1)
        else:
            count = torch.where(weighted_count > 0, weighted_count, 1)
        ctx.save_for_backward(gradient.div_(count))
        ctx.logits_dtype = logits.dtype
        return total / count

    @staticmethod
    @once_differentiable
    def backward(ctx, grad_output: Tensor) -> tuple[Tensor, None, None, None]:
        (gradient,) = ctx.saved_tensors
        return (gradient * grad_output).to(ctx.logits_dtype), None, None, None


def upsampled_cross_entropy(
    logits: Tensor, target: Tensor, ignore_index: int = 255, class_weight: Tensor | None = None
) -> Tensor:
    """Mean cross-entropy over the valid pixels of ``target``, of logits upsampled to its size.

    Equals ``cross_entropy(interpolate(logits, target.shape[1:], mode='bilinear', align_corners=False), target, class_weight)`` in
    value and gradient; a batch without a valid pixel, or with none of a class of positive weight, gives exactly 0 and gradient 0.

    Args:
        logits: ``(B, C, h, w)``, any floating type; computed in float32.
        target: ``(B, H, W)`` class ids, any integer type.
        ignore_index: The id of pixels that do not count.
        class_weight: ``(C,)`` float32, at least 0: how much a pixel of each class counts in the mean; None: all the same.

    Raises:
        IndexError: On CPU, if a label is neither a class nor ``ignore_index``.
    """
    with torch.autocast(logits.device.type, enabled=False):
        return _UpsampledCrossEntropy.apply(logits, target, ignore_index, class_weight)


@MODELS.register_module()
class UpsampledCrossEntropyLoss(nn.Module):
    """:func:`upsampled_cross_entropy` as a configured loss.

    Args:
        ignore_index: The id of pixels that do not count.
        class_weight: A number per class, at least 0: how much its pixels count in the mean. ``compute_statistics.py`` prints one
            that lifts rare classes. None: all pixels count the same.

    Raises:
        ArgumentError: If a weight is negative or not finite, or none is positive.
    """

    name = 'ce'

    def __init__(self, *, ignore_index: int = 255, class_weight: Sequence[float] | None = None) -> None:
        super().__init__()
        self.ignore_index = ignore_index
        if class_weight is not None and not (all(0 <= weight < math.inf for weight in class_weight) and any(class_weight)):
            raise ArgumentError(f'`class_weight` should be finite numbers of at least 0, not all 0. Found {list(class_weight)}.')
        weight = None if class_weight is None else torch.tensor(class_weight, dtype=torch.float32)
        self.register_buffer('class_weight', weight, persistent=False)

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        return upsampled_cross_entropy(logits, target, self.ignore_index, self.class_weight)
