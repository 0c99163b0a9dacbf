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

import numpy as np

DEPTH_METRICS = (
    'si_log_rmse', 'log_rmse', 'log_mae', 'mae', 'rmse', 'rel', 'rel_squared', 'inv_mae', 'inv_rmse',
    'delta1', 'delta2', 'delta3',
)  # fmt: skip
DEPTH_FLOOR = 0.01
_DELTA_BASE = 1.25


def image_depth_errors(label: np.ndarray, prediction: np.ndarray) -> np.ndarray | None:
    """The errors of one image in the order of ``DEPTH_METRICS``, computed in float64.

    Args:
        label: Metres, float32 or float64, any shape; valid where > 0.
        prediction: Metres, float32 or float64, same shape, finite everywhere; values below 0.01 count as 0.01.

    Returns:
        ``(12,)`` float64, or None if the image has no valid pixel.

    Raises:
        TypeError: If a map is neither float32 nor float64.
        ValueError: If the shapes differ, the prediction is not finite, or a valid label is infinite.
    """
    for name, values in (('label', label), ('prediction', prediction)):
        if values.dtype not in (np.float32, np.float64):
            raise TypeError(f'`{name}` should be float32 or float64. Found {values.dtype}.')
    if label.shape != prediction.shape:
        raise ValueError(f'`label` and `prediction` should have the same shape. Found {label.shape} and {prediction.shape}.')
    if not np.isfinite(prediction).all():
        raise ValueError(f'`prediction` should be finite. Found {_first_non_finite(prediction)}.')
    valid_mask = label > 0
    num_valid = np.count_nonzero(valid_mask)
    if num_valid == 0:
        return None
    if num_valid < label.size:
        label, prediction = label[valid_mask], prediction[valid_mask]
    if not np.isfinite(label).all():
        raise ValueError('`label` should be finite. Found inf.')
    gt, pred = label.ravel().astype(np.float64), prediction.ravel().astype(np.float64)
    np.maximum(gt, DEPTH_FLOOR, out=gt)
    np.maximum(pred, DEPTH_FLOOR, out=pred)

    ratio = gt / pred
    deltas = []
    for threshold in _DELTA_BASE ** np.arange(1, 4):
        inside = np.count_nonzero(ratio < threshold) - np.count_nonzero(ratio <= 1 / threshold)
        deltas.append(100 * inside / num_valid)

    # In-place operations on two buffers that stay in cache. No BLAS dot: its threads cost more than they save at this size.
    log_error = np.log(ratio, out=ratio)
    log_mean = log_error.mean()
    buffer = np.abs(log_error)
    log_mae = buffer.mean()
    # The centred form equals mean(e^2) - mean(e)^2 without its cancellation, so it is never negative.
    log_error -= log_mean
    log_variance = np.square(log_error, out=buffer).mean()

    error = np.abs(np.subtract(gt, pred, out=ratio), out=ratio)
    mae, squared = error.mean(), np.square(error, out=buffer).mean()
    error /= gt
    rel, rel_squared = error.mean(), np.square(error, out=buffer).mean()
    error /= pred  # |gt - pred| / (gt * pred) = |1/gt - 1/pred|
    inv_mae, inv_squared = error.mean(), np.square(error, out=buffer).mean()
    return np.array([
        100 * np.sqrt(log_variance), np.sqrt(log_variance + log_mean**2), log_mae, mae, np.sqrt(squared),
        rel, rel_squared, inv_mae, np.sqrt(inv_squared), *deltas,
    ])  # fmt: skip


def _first_non_finite(values: np.ndarray) -> float:
    return float(values[~np.isfinite(values)][0])


class DepthErrorSum:
    """What the mean over a split needs: ``total`` (12,) float64, the summed errors, of ``num_images`` (1,) int64 images."""

    def __init__(self) -> None:
        self.total = np.zeros(len(DEPTH_METRICS), dtype=np.float64)
        self.num_images = np.zeros(1, dtype=np.int64)

    def add(self, errors: np.ndarray | None) -> None:
        """Adds the result of :func:`image_depth_errors`; None (no valid pixel) adds nothing."""
        if errors is not None:
            self.total += errors
            self.num_images += 1

    def update(self, label: np.ndarray, prediction: np.ndarray) -> None:
        """Adds one image, see :func:`image_depth_errors`."""
        self.add(image_depth_errors(label, prediction))
