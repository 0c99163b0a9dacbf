"""Angles between predicted and true surface normals, per image over its valid pixels.

With ``a`` the angle between the unit vectors, in degrees:

==================  =================================  =======
``mean_angle``      ``mean(a)``                        degrees
``median_angle``    median of ``a``                    degrees
``rmse_angle``      ``sqrt(mean(a^2))``                degrees
``within_11.25``    ``100 * share(a < 11.25)``; also 22.5 and 30 (arXiv 1411.4734)
==================  =================================  =======
"""

from typing import ClassVar

import numpy as np

from mtl_plugins.errors import ArgumentError
from mtl_plugins.evaluation.functional.scorer import ImageMeanScorer, Score

_LIMITS = (11.25, 22.5, 30.0)


def image_normal_errors(label: np.ndarray, prediction: np.ndarray) -> np.ndarray | None:
    """Return the errors of one image in the order of ``NORMAL_METRICS``, ``(6,)`` float64, or None without a valid pixel.

    Args:
        label: Unit vectors ``(H, W, 3)``, floating point; zero where unknown.
        prediction: Vectors ``(H, W, 3)`` of any length but zero, finite.

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
    """Return degrees ``(N,)`` between float64 vectors ``(N, 3)`` of any length; ArgumentError if a guess is zero."""
    if not guess.any(-1).all():
        raise ArgumentError('`prediction` should hold vectors of any length but zero. Found zero.')
    # Exact for small angles, where the arc cosine of a dot product loses half the digits.
    across = np.linalg.norm(np.cross(truth, guess), axis=-1)
    return np.rad2deg(np.arctan2(across, (truth * guess).sum(-1)))


class NormalScorer(ImageMeanScorer):
    """Means of the angles of images; the summary is the mean angle. Values are unit vectors; zero in the label is unknown."""

    listed: ClassVar = {
        'mean_angle': Score('mean angle', '°', False),
        'median_angle': Score('median angle', '°', False),
        'rmse_angle': Score('RMSE of the angle', '°', False),
        **{f'within_{limit:g}': Score(f'within {limit:g}°', '%', True) for limit in _LIMITS},
    }
    errors = staticmethod(image_normal_errors)


NORMAL_METRICS = tuple(NormalScorer.listed)
