"""Depth errors of one image, their mean over images or over all pixels, and the protocols of the literature.

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
``sq_rel``         ``mean(a^2 / gt)``                   metres
``log10``          ``mean(|log10(gt) - log10(pred)|)``
=================  ===================================  ==========================================================
"""

from typing import ClassVar, NamedTuple

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
        ``(14,)`` float64, or None if the image has no valid pixel.

    Raises:
        TypeError: If a map is neither float32 nor float64.
        ArgumentError: If the shapes differ, the prediction is not finite, or a valid label is infinite.
    """
    sums = _image_sums(label, prediction)
    return _errors(sums) if sums[0] else None


def _image_sums(label: np.ndarray, prediction: np.ndarray) -> np.ndarray:
    """Return number of valid pixels, mean of e, sum of its squared deviations, then the sums behind the other errors."""
    _check_maps(label, prediction)
    label, prediction = label.ravel(), prediction.ravel()
    starts = range(0, label.size, _BLOCK)
    blocks = [_measure_block(label[start : start + _BLOCK], prediction[start : start + _BLOCK]) for start in starts]
    counts, log_means, log_deviations, *sums = np.array(blocks).T
    num_valid = counts.sum()
    if num_valid == 0:
        return np.zeros(14)
    # The centred form equals mean(e^2) - mean(e)^2 without its cancellation, so it is never negative.
    log_mean = counts @ log_means / num_valid
    log_deviation = log_deviations.sum() + counts @ (log_means - log_mean) ** 2
    return np.array([num_valid, log_mean, log_deviation, *(column.sum() for column in sums)])


def _errors(sums: np.ndarray) -> np.ndarray:
    num_valid, log_mean = sums[:2]
    log_variance, log_mae, mae, squared, rel, rel_squared, inv_mae, inv_squared, *deltas, sq_rel = sums[2:] / num_valid
    return np.array([
        100 * np.sqrt(log_variance), np.sqrt(log_variance + log_mean**2), log_mae, mae, np.sqrt(squared),
        rel, rel_squared, inv_mae, np.sqrt(inv_squared), *(100 * share for share in deltas), sq_rel, log_mae / np.log(10),
    ])  # fmt: skip


def _check_maps(label: np.ndarray, prediction: np.ndarray) -> None:
    for name, values in (('label', label), ('prediction', prediction)):
        if values.dtype not in (np.float32, np.float64):
            raise TypeError(f'`{name}` should be float32 or float64. Found {values.dtype}.')
    check_shapes(label, prediction)


def _measure_block(label: np.ndarray, prediction: np.ndarray) -> list[float]:
    """:func:`_image_sums` of a part of an image."""
    _check_finite('prediction', prediction)
    valid_mask = label > 0
    num_valid = np.count_nonzero(valid_mask)
    if num_valid == 0:
        return [0.0] * 14
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
    sq_rel = np.divide(buffer, gt, out=buffer).sum()
    error /= gt
    sums += [error.sum(), np.square(error, out=buffer).sum()]
    error /= pred  # |gt - pred| / (gt * pred) = |1/gt - 1/pred|
    sums += [error.sum(), np.square(error, out=buffer).sum()]
    return [num_valid, log_mean, log_deviation, *sums, *inside, sq_rel]


def _check_finite(name: str, values: np.ndarray) -> None:
    # The extremes carry NaN and infinity along, and take less time than testing each value.
    for extreme in (values.min(), values.max()):
        if not np.isfinite(extreme):
            raise ArgumentError(f'`{name}` should be finite. Found {extreme}.')


def _to_clamped_float64(values: np.ndarray) -> np.ndarray:
    clamped = values.astype(np.float64)
    return np.maximum(clamped, DEPTH_FLOOR, out=clamped) if clamped.min() < DEPTH_FLOOR else clamped


class DepthProtocol(NamedTuple):
    """A way to compare depth.

    Attributes:
        depth_range: Metres of the labels that count, without the ends, and of predictions, which are clamped; None for all.
        crop: Top, bottom, left and right of the rows and columns that count, of an image of height and width 1; None for all.
        pooled: One mean over the valid pixels of all images, instead of the mean of the images' errors.
    """

    depth_range: tuple[float, float] | None = None
    crop: tuple[float, float, float, float] | None = None
    pooled: bool = False


# The crop is rows 45 to 470 and columns 41 to 600 of NYU's 480x640 (arXiv 1406.2283); MTAN is arXiv 1803.10704.
PROTOCOLS = dict(
    courses=DepthProtocol(),
    mtan=DepthProtocol(pooled=True),
    eigen=DepthProtocol(depth_range=(1e-3, 10.0), crop=(45 / 480, 471 / 480, 41 / 640, 601 / 640)),
)


def select_pixels(label: np.ndarray, protocol: DepthProtocol) -> np.ndarray:
    """Return the label ``(H, W)`` with 0 at every pixel that does not count."""
    if protocol.crop is not None:
        height, width = label.shape
        ends = zip(protocol.crop, (height, height, width, width), strict=True)
        top, bottom, left, right = (round(end * size) for end, size in ends)
        inside = np.zeros_like(label)
        inside[top:bottom, left:right] = label[top:bottom, left:right]
        label = inside
    if protocol.depth_range is not None:
        nearest, farthest = protocol.depth_range
        label = np.where((label > nearest) & (label < farthest), label, 0)
    return label


def align_depth(label: np.ndarray, prediction: np.ndarray, alignment: str) -> np.ndarray:
    """Return the prediction after the best fit to the label's valid pixels, for depth that is known up to scale (and shift).

    Args:
        label: Metres, valid where > 0.
        prediction: Metres, the same shape.
        alignment: ``'median'`` scales to the label's median; ``'log'`` fits ``a * ln(pred) + b`` and ``'linear'``
            ``a * pred + b`` by least squares.
    """
    valid = label > 0
    if not valid.any():
        return prediction
    gt = np.maximum(label[valid].astype(np.float64), DEPTH_FLOOR)
    pred = np.maximum(prediction.astype(np.float64), DEPTH_FLOOR)
    if alignment == 'median':
        return pred * (np.median(gt) / np.median(pred[valid]))
    if alignment == 'log':
        gt, pred = np.log(gt), np.log(pred)
    known = pred[valid]
    spread = known.var()
    slope = ((known - known.mean()) * (gt - gt.mean())).mean() / spread if spread else 0.0
    aligned = slope * (pred - known.mean()) + gt.mean()
    return np.exp(aligned) if alignment == 'log' else aligned


ALIGNMENTS = ('median', 'log', 'linear')


class DepthScorer(ImageMeanScorer):
    """Depth errors; the summary is SI-logRMSE. Values are metres; 0 in the label is unknown.

    Args:
        name: Of the label.
        protocol: One of ``PROTOCOLS``. With ``'courses'``, the default, and ``'eigen'`` scores are means over images, with
            ``'mtan'`` one over all valid pixels.
        alignment: One of ``ALIGNMENTS``, fitted to each image by :func:`align_depth`; None for metres as they are.
    """

    listed: ClassVar = {
        'si_log_rmse': Score('SI-logRMSE', '', False),
        'log_rmse': Score('RMSE log', '', False),
        'log_mae': Score('logMAE', '', False),
        'mae': Score('abs err', 'm', False),
        'rmse': Score('RMSE', 'm', False),
        'rel': Score('abs rel', '', False),
        'rel_squared': Score('squared relative error', '', False),
        'inv_mae': Score('inverse MAE', '1/m', False),
        'inv_rmse': Score('inverse RMSE', '1/m', False),
        **{f'delta{k}': Score(f'δ{k}', '%', True) for k in (1, 2, 3)},
        'sq_rel': Score('sq rel', 'm', False),
        'log10': Score('log10', '', False),
    }
    errors = staticmethod(image_depth_errors)

    def __init__(self, name: str, protocol: str = 'courses', alignment: str | None = None) -> None:
        super().__init__(name)
        if protocol not in PROTOCOLS:
            raise ArgumentError(f'`protocol` should be one of {", ".join(PROTOCOLS)}. Found {protocol!r}.')
        if alignment not in (None, *ALIGNMENTS):
            raise ArgumentError(f'`alignment` should be None or one of {", ".join(ALIGNMENTS)}. Found {alignment!r}.')
        self.protocol, self.alignment = PROTOCOLS[protocol], alignment
        self.is_plain = self.protocol == DepthProtocol() and alignment is None
        # Of all pixels: their number, and the sums of e, of e squared and of the other errors.
        self._pooled = np.zeros(14)

    def compare(self, values: np.ndarray, prediction: np.ndarray) -> np.ndarray | None:
        if self.is_plain:
            return self.errors(values, prediction)
        _check_maps(values, prediction)
        _check_finite('prediction', prediction)
        values = select_pixels(values, self.protocol)
        if self.alignment is not None:
            prediction = align_depth(values, prediction, self.alignment)
        if self.protocol.depth_range is not None:
            prediction = prediction.clip(*self.protocol.depth_range)
        sums = _image_sums(values, prediction)
        if not sums[0] or not self.protocol.pooled:
            return _errors(sums) if sums[0] else None
        num_valid, log_mean, log_deviation = sums[:3]
        return np.array([num_valid, num_valid * log_mean, log_deviation + num_valid * log_mean**2, *sums[3:]])

    def accumulate(self, compared: np.ndarray | None) -> None:
        if not self.protocol.pooled:
            super().accumulate(compared)
        elif compared is not None:
            self._pooled += compared
            self.num_images += 1

    def state(self) -> list[np.ndarray]:
        return [*super().state(), *([self._pooled] if self.protocol.pooled else [])]

    def results(self) -> dict[str, float]:
        if not self.protocol.pooled or not self.num_images.any():
            return super().results()
        num_valid, log_sum, log_squares, *sums = self._pooled
        log_mean = log_sum / num_valid
        errors = _errors(np.array([num_valid, log_mean, log_squares - log_sum * log_mean, *sums]))
        return dict(zip(self.words, errors, strict=True))


DEPTH_METRICS = tuple(DepthScorer.listed)
