"""Depth errors of one image, and their mean over the images that have a valid pixel.

With both depths clamped to at least 0.01 m, ``e = log(gt) - log(pred)`` and ``a = |gt - pred|`` over the valid pixels:

=================  ===================================  ==========================================================
``si_log_rmse``    ``100 * sqrt(mean(e^2) - mean(e)^2)``  no cost for a constant factor (arXiv 1406.2283, lambda = 1)
``log_rmse``       ``sqrt(mean(e^2))``
``log_mae``        ``mean(|e|)``
``mae``            ``mean(a)``                          metres
``rmse``           ``sqrt(mean(a^2))``                  metres
``rel``            ``mean(a / gt)``
``rel_squared``    ``mean(a^2 / gt^2)``
``inv_mae``        ``mean(|1/gt - 1/pred|)``            1/metres
``inv_rmse``       ``sqrt(mean((1/gt - 1/pred)^2))``    1/metres
``delta1..3``      ``100 * share(1/1.25^k < gt/pred < 1.25^k)``  strict on both sides
=================  ===================================  ==========================================================
"""

from typing import ClassVar

import numpy as np

from mtl_plugins.errors import ArgumentError
from mtl_plugins.evaluation.functional.scorer import ImageMeanScorer, Score, check_shapes

DEPTH_FLOOR = 0.01
DELTA_LIMITS = tuple(1.25**k for k in (1, 2, 3))
# Pixels whose four float64 buffers (512 KiB) stay in a core's cache: beside busy neighbours that is twice as fast.
_BLOCK = 2**14


def image_depth_errors(label: np.ndarray, prediction: np.ndarray) -> np.ndarray | None:
    """Return the errors of one image in the order of ``DEPTH_METRICS``, computed in float64.

    Args:
        label: Metres, float32 or float64, any shape; valid where > 0.
        prediction: Metres, float32 or float64, same shape, finite everywhere; values below 0.01 count as 0.01.

    Returns:
        ``(12,)`` float64, or None if the image has no valid pixel.

    Raises:
        TypeError: If a map is neither float32 nor float64.
        ArgumentError: If the shapes differ, the prediction is not finite, or a valid label is infinite.
    """
    for name, values in (('label', label), ('prediction', prediction)):
        if values.dtype not in (np.float32, np.float64):
            raise TypeError(f'`{name}` should be float32 or float64. Found {values.dtype}.')
    check_shapes(label, prediction)
    label, prediction = label.ravel(), prediction.ravel()
    starts = range(0, label.size, _BLOCK)
    blocks = [_measure_block(label[start : start + _BLOCK], prediction[start : start + _BLOCK]) for start in starts]
    counts, log_means, log_deviations, *sums = np.array(blocks).T
    num_valid = counts.sum()
    if num_valid == 0:
        return None
    # The centred form equals mean(e^2) - mean(e)^2 without its cancellation, so it is never negative.
    log_mean = counts @ log_means / num_valid
    log_variance = (log_deviations.sum() + counts @ (log_means - log_mean) ** 2) / num_valid
    log_mae, mae, squared, rel, rel_squared, inv_mae, inv_squared, *deltas = (column.sum() / num_valid for column in sums)
    return np.array([
        100 * np.sqrt(log_variance), np.sqrt(log_variance + log_mean**2), log_mae, mae, np.sqrt(squared),
        rel, rel_squared, inv_mae, np.sqrt(inv_squared), *(100 * share for share in deltas),
    ])  # fmt: skip


def _measure_block(label: np.ndarray, prediction: np.ndarray) -> list[float]:
    """Return number of valid pixels, mean of e, sum of its squared deviations, then the sums behind the other errors."""
    _check_finite('prediction', prediction)
    valid_mask = label > 0
    num_valid = np.count_nonzero(valid_mask)
    if num_valid == 0:
        return [0.0] * 13
    if num_valid < label.size:
        label, prediction = label[valid_mask], prediction[valid_mask]
    _check_finite('label', label)
    gt, pred = _to_clamped_float64(label), _to_clamped_float64(prediction)

    ratio = gt / pred
    inside = [np.count_nonzero(ratio < limit) - np.count_nonzero(ratio <= 1 / limit) for limit in DELTA_LIMITS]

    log_error = np.log(ratio, out=ratio)
    log_mean = log_error.mean()
    buffer = np.abs(log_error)
    sums = [buffer.sum()]
    log_error -= log_mean
    log_deviation = np.square(log_error, out=buffer).sum()

    error = np.abs(np.subtract(gt, pred, out=ratio), out=ratio)
    sums += [error.sum(), np.square(error, out=buffer).sum()]
    error /= gt
    sums += [error.sum(), np.square(error, out=buffer).sum()]
    error /= pred  # |gt - pred| / (gt * pred) = |1/gt - 1/pred|
    sums += [error.sum(), np.square(error, out=buffer).sum()]
    return [num_valid, log_mean, log_deviation, *sums, *inside]


def _check_finite(name: str, values: np.ndarray) -> None:
    # The extremes carry NaN and infinity along, and take less time than testing each value.
    for extreme in (values.min(), values.max()):
        if not np.isfinite(extreme):
            raise ArgumentError(f'`{name}` should be finite. Found {extreme}.')


def _to_clamped_float64(values: np.ndarray) -> np.ndarray:
    clamped = values.astype(np.float64)
    return np.maximum(clamped, DEPTH_FLOOR, out=clamped) if clamped.min() < DEPTH_FLOOR else clamped


def relative_depth_error(label: np.ndarray, prediction: np.ndarray) -> np.ndarray:
    """Return ``100 (pred - gt) / gt`` of metres clamped to at least 0.01; 0 in the label is unknown."""
    valid, gt, pred = _clamped_depths(label, prediction)
    return np.where(valid, 100 * (pred - gt) / gt, np.nan)


def log_depth_error(label: np.ndarray, prediction: np.ndarray) -> np.ndarray:
    """Return ``log(pred) - log(gt)`` of metres clamped to at least 0.01; 0 in the label is unknown."""
    valid, gt, pred = _clamped_depths(label, prediction)
    return np.where(valid, np.log(pred) - np.log(gt), np.nan)


def _clamped_depths(label: np.ndarray, prediction: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    check_shapes(label, prediction)
    if not np.isfinite(prediction).all():
        raise ArgumentError('`prediction` should be finite. Found NaN or infinity.')
    return label > 0, np.maximum(label.astype(np.float64), DEPTH_FLOOR), np.maximum(prediction.astype(np.float64), DEPTH_FLOOR)


class DepthScorer(ImageMeanScorer):
    """Means of the depth errors of images; the summary is SI-logRMSE. Values are metres; 0 in the label is unknown."""

    listed: ClassVar = {
        'si_log_rmse': Score('SI-logRMSE', '', False),
        'log_rmse': Score('logRMSE', '', False),
        'log_mae': Score('logMAE', '', False),
        'mae': Score('MAE', 'm', False),
        'rmse': Score('RMSE', 'm', False),
        'rel': Score('relative error', '', False),
        'rel_squared': Score('squared relative error', '', False),
        'inv_mae': Score('inverse MAE', '1/m', False),
        'inv_rmse': Score('inverse RMSE', '1/m', False),
        **{f'delta{k}': Score(f'δ < 1.25^{k}', '%', True) for k in (1, 2, 3)},
    }
    errors = staticmethod(image_depth_errors)


DEPTH_METRICS = tuple(DepthScorer.listed)
