"""Contributions of one image to the scores of classes and of depth, computed on the device of its maps, without waiting for it.

The functions return one float64 vector; the first number counts invalid pixels; the others mean nothing if there are any.
"""

import math
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from mtl_plugins.evaluation.functional.confusion_matrix import ConfusionScorer
from mtl_plugins.evaluation.functional.depth_errors import DELTA_LIMITS, DEPTH_FLOOR, DepthScorer
from mtl_plugins.evaluation.functional.scorer import IGNORE_LABEL, Scorer

_DTYPES = {ConfusionScorer: (torch.uint8,), DepthScorer: (torch.float32, torch.float64)}


def count_pairs(label: Tensor, prediction: Tensor, num_classes: int) -> Tensor:
    """Return ``(1 + C * C,)``: invalid pixels, then the confusion matrix of :func:`update_confusion_matrix`."""
    label, prediction = label.flatten().long(), prediction.flatten().long()
    invalid = (prediction >= num_classes) | ((label >= num_classes) & (label != IGNORE_LABEL))
    counted = (label != IGNORE_LABEL) & ~invalid
    pair = torch.where(counted, label * num_classes + prediction, num_classes**2)
    counts = torch.zeros(num_classes**2 + 1, dtype=torch.int64, device=label.device)
    counts.scatter_add_(0, pair, torch.ones_like(pair))
    return torch.cat([invalid.sum()[None], counts[:-1]]).double()


def depth_errors(label: Tensor, prediction: Tensor) -> Tensor:
    """Return ``(16,)``: invalid pixels, valid labels, and the errors of :func:`image_depth_errors`."""
    valid = label > 0
    invalid = (~prediction.isfinite()).sum() + (valid & ~label.isfinite()).sum()
    count = valid.sum()
    # Where nothing is valid, 1 beside 1: no error.
    gt, pred = (torch.where(valid, values, 1).double().clamp(min=DEPTH_FLOOR) for values in (label, prediction))

    def mean(values: Tensor) -> Tensor:
        return values.sum() / count

    ratio = gt / pred
    log_error = ratio.log()
    log_mean = mean(log_error)
    # The centred form equals mean(e^2) - mean(e)^2 without its cancellation.
    log_variance = mean(((log_error - log_mean) * valid).square())
    error = (gt - pred).abs()
    relative = error / gt
    inverse = relative / pred
    shares = [mean((valid & (ratio < limit) & (ratio > 1 / limit)).double()) for limit in DELTA_LIMITS]
    errors = [
        100 * log_variance.sqrt(), (log_variance + log_mean.square()).sqrt(), mean(log_error.abs()), mean(error),
        mean(error.square()).sqrt(), mean(relative), mean(relative.square()), mean(inverse), mean(inverse.square()).sqrt(),
        *(100 * share for share in shares), mean(error * relative), mean(log_error.abs()) / math.log(10),
    ]  # fmt: skip
    return torch.stack([invalid.double(), count.double(), *errors])


def start_measuring(scorer: Scorer, label: Tensor, prediction: Tensor) -> tuple[Tensor, Callable[[np.ndarray], object]] | None:
    """Return the vector of maps ``(1, H, W)``, and a function that makes of it the result of :meth:`Scorer.measure`.

    None for a scorer that measures on the host, and for maps that :meth:`Scorer.measure` would refuse.
    """
    is_plain = not scorer.added and getattr(scorer, 'is_plain', True)
    dtypes = _DTYPES.get(type(scorer), ()) if is_plain else ()
    if not {label.dtype, prediction.dtype} <= set(dtypes) or label.shape != prediction.shape or len(label) != 1:
        return None
    if type(scorer) is ConfusionScorer:
        shape = scorer.confusion.shape
        return count_pairs(label, prediction, shape[0]), lambda vector: (vector[1:].astype(np.int64).reshape(shape), [])
    return depth_errors(label, prediction), lambda vector: (vector[2:] if vector[1] else None, [])
