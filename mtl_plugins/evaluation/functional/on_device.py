"""What one image contributes to the scores of classes and of depth, computed where the maps lie, without waiting for it.

Each function returns one float64 vector; whoever has collected those of some images moves them to the host at once. The first
number tells how many pixels are not as they should be, in which case the others mean nothing.
"""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from mtl_plugins.evaluation.functional.confusion_matrix import ConfusionScorer
from mtl_plugins.evaluation.functional.depth_errors import DEPTH_FLOOR, DepthScorer
from mtl_plugins.evaluation.functional.scorer import IGNORE_LABEL, Scorer

_DELTA_LIMITS = tuple(1.25**power for power in (1, 2, 3))


def count_pairs(label: Tensor, prediction: Tensor, num_classes: int) -> Tensor:
    """``(1 + C * C,)``: invalid pixels, then the confusion matrix, as :func:`update_confusion_matrix` counts them.

    Args:
        label: Class ids or 255, uint8, any shape.
        prediction: Class ids, uint8, same shape.
        num_classes: C.
    """
    label, prediction = label.flatten().long(), prediction.flatten().long()
    invalid = (prediction >= num_classes) | ((label >= num_classes) & (label != IGNORE_LABEL))
    counted = (label != IGNORE_LABEL) & ~invalid
    pair = torch.where(counted, label * num_classes + prediction, num_classes**2)
    counts = torch.zeros(num_classes**2 + 1, dtype=torch.int64, device=label.device)
    counts.scatter_add_(0, pair, torch.ones_like(pair))
    return torch.cat([invalid.sum()[None], counts[:-1]]).double()


def depth_errors(label: Tensor, prediction: Tensor) -> Tensor:
    """``(14,)``: invalid pixels, valid labels, and the errors of :func:`image_depth_errors`, in float64.

    Args:
        label: Metres, valid where > 0, any shape.
        prediction: Metres, same shape.
    """
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
    shares = [mean((valid & (ratio < limit) & (ratio > 1 / limit)).double()) for limit in _DELTA_LIMITS]
    errors = [
        100 * log_variance.sqrt(), (log_variance + log_mean.square()).sqrt(), mean(log_error.abs()), mean(error),
        mean(error.square()).sqrt(), mean(relative), mean(relative.square()), mean(inverse), mean(inverse.square()).sqrt(),
        *(100 * share for share in shares),
    ]  # fmt: skip
    return torch.stack([invalid.double(), count.double(), *errors])


def _same_kind(label: Tensor, prediction: Tensor, dtypes: tuple[torch.dtype, ...]) -> bool:
    return label.shape == prediction.shape and len(label) == 1 and label.dtype in dtypes and prediction.dtype in dtypes


def start_measuring(scorer: Scorer, label: Tensor, prediction: Tensor) -> tuple[Tensor, Callable[[np.ndarray], object]] | None:
    """The vector of an image, and what makes of it, on the host, the result of :meth:`Scorer.measure`.

    Args:
        scorer: Of the label.
        label: A map ``(1, H, W)`` on a GPU.
        prediction: The same.

    Returns:
        None for a scorer that does this on the host, and for maps that :meth:`Scorer.measure` would refuse.
    """
    if scorer.added:
        return None
    if type(scorer) is ConfusionScorer and _same_kind(label, prediction, (torch.uint8,)):
        shape = scorer.confusion.shape
        return count_pairs(label, prediction, shape[0]), lambda vector: (vector[1:].astype(np.int64).reshape(shape), [])
    if type(scorer) is DepthScorer and _same_kind(label, prediction, (torch.float32, torch.float64)):
        return depth_errors(label, prediction), lambda vector: (vector[2:] if vector[1] else None, [])
    return None
