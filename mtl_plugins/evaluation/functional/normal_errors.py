"""Angles between predicted and true surface normals, per image over its valid pixels.

With ``a`` the angle between the unit vectors, in degrees:

==================  =================================  =======
``mean_angle``      ``mean(a)``                        degrees
``median_angle``    median of ``a``                    degrees
``rmse_angle``      ``sqrt(mean(a^2))``                degrees
``within_11.25``    ``100 * share(a < 11.25)``; also 22.5 and 30 (arXiv 1411.4734)
==================  =================================  =======
"""

import numpy as np

from mtl_plugins.errors import ArgumentError
from mtl_plugins.evaluation.functional.scorer import Scorer

NORMAL_METRICS = ('mean_angle', 'median_angle', 'rmse_angle', 'within_11.25', 'within_22.5', 'within_30')
_LIMITS = (11.25, 22.5, 30.0)


def image_normal_errors(label: np.ndarray, prediction: np.ndarray) -> np.ndarray | None:
    """The errors of one image in the order of ``NORMAL_METRICS``, computed in float64.

    The angle is ``atan2(|u x v|, u . v)``, exact for small angles, where the arc cosine of a dot product loses half the digits.

    Args:
        label: Unit vectors ``(H, W, 3)``, floating point; zero where unknown.
        prediction: Vectors ``(H, W, 3)`` of any length but zero, finite.

    Returns:
        ``(6,)`` float64, or None if the image has no valid pixel.

    Raises:
        ArgumentError: If the shapes differ, a vector is not finite, or a prediction is zero where the label is valid.
    """
    if label.shape != prediction.shape or label.ndim != 3 or label.shape[-1] != 3:
        raise ArgumentError(
            f'`label` and `prediction` should have one shape (H, W, 3). Found {label.shape} and {prediction.shape}.'
        )
    for name, values in (('label', label), ('prediction', prediction)):
        if not (np.isfinite(values.min()) and np.isfinite(values.max())):
            raise ArgumentError(f'`{name}` should be finite. Found NaN or infinity.')
    valid = label.any(-1)
    if not valid.any():
        return None
    truth, guess = label[valid].astype(np.float64), prediction[valid].astype(np.float64)
    angle = angles_between(truth, guess)
    within = [100 * np.count_nonzero(angle < limit) / len(angle) for limit in _LIMITS]
    return np.array([angle.mean(), np.median(angle), np.sqrt(np.square(angle).mean()), *within])


def angles_between(truth: np.ndarray, guess: np.ndarray) -> np.ndarray:
    """Degrees ``(N,)`` between float64 vectors ``(N, 3)`` of any length.

    Raises:
        ArgumentError: If a guess is zero.
    """
    if not guess.any(-1).all():
        raise ArgumentError('`prediction` should hold vectors of any length but zero. Found zero.')
    across = np.linalg.norm(np.cross(truth, guess), axis=-1)
    return np.rad2deg(np.arctan2(across, (truth * guess).sum(-1)))


class NormalScorer(Scorer):
    """``<prefix>/<metric>`` of ``NORMAL_METRICS``: means over the images that have a valid pixel; the summary is the mean angle.

    Values are unit vectors ``(H, W, 3)``; zero in the label is unknown. All scores are NaN if no image had a valid pixel.
    """

    empty = 'no valid pixel'
    rules = {name: 'greater' if name.startswith('within') else 'less' for name in NORMAL_METRICS}

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.total = np.zeros(len(NORMAL_METRICS), dtype=np.float64)
        self.num_images = np.zeros(1, dtype=np.int64)

    def measure(self, values: np.ndarray, prediction: np.ndarray) -> np.ndarray | None:
        return image_normal_errors(values, prediction)

    def add(self, measured: np.ndarray | None) -> None:
        if measured is not None:
            self.total += measured
            self.num_images += 1

    def counters(self) -> list[np.ndarray]:
        return [self.total, self.num_images]

    def scores(self) -> dict[str, float]:
        mean = self.total / self.num_images if self.num_images.any() else np.full(len(NORMAL_METRICS), np.nan)
        scores = {f'{self.prefix}/{name}': float(value) for name, value in zip(NORMAL_METRICS, mean, strict=True)}
        scores[self.summary] = scores[f'{self.prefix}/mean_angle']
        return scores

    def is_empty(self) -> bool:
        return not self.num_images.any()
