"""Errors of single pixels in float64, NaN where the label does not count."""

import numpy as np

from mtl_plugins.errors import ArgumentError
from mtl_plugins.evaluation.functional.depth_errors import DEPTH_FLOOR
from mtl_plugins.evaluation.functional.normal_errors import angles_between
from mtl_plugins.evaluation.functional.scorer import IGNORE_LABEL


def wrong_class(label: np.ndarray, prediction: np.ndarray) -> np.ndarray:
    """Return 100 where the classes differ and 0 where they agree; 255 in the label does not count."""
    _check_shapes(label, prediction)
    return np.where(label == IGNORE_LABEL, np.nan, 100.0 * (label != prediction))


def relative_depth_error(label: np.ndarray, prediction: np.ndarray) -> np.ndarray:
    """Return ``100 (pred - gt) / gt`` of metres clamped to at least 0.01; 0 in the label is unknown."""
    valid, gt, pred = _clamped_depths(label, prediction)
    return np.where(valid, 100 * (pred - gt) / gt, np.nan)


def log_depth_error(label: np.ndarray, prediction: np.ndarray) -> np.ndarray:
    """Return ``log(pred) - log(gt)`` of metres clamped to at least 0.01; 0 in the label is unknown."""
    valid, gt, pred = _clamped_depths(label, prediction)
    return np.where(valid, np.log(pred) - np.log(gt), np.nan)


def normal_angle(label: np.ndarray, prediction: np.ndarray) -> np.ndarray:
    """Return degrees ``(H, W)`` between vectors ``(H, W, 3)``; a zero in the label is unknown."""
    _check_shapes(label, prediction)
    angles = np.full(label.shape[:2], np.nan)
    valid = label.any(-1)
    angles[valid] = angles_between(label[valid].astype(np.float64), prediction[valid].astype(np.float64))
    return angles


def probability_error(label: np.ndarray, prediction: np.ndarray) -> np.ndarray:
    """Return ``100 |p - label|`` of a probability and a label of 0 or 1; 255 in the label does not count."""
    _check_shapes(label, prediction)
    return np.where(label == IGNORE_LABEL, np.nan, 100 * np.abs(prediction.astype(np.float64) - label))


def _clamped_depths(label: np.ndarray, prediction: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    _check_shapes(label, prediction)
    if not np.isfinite(prediction).all():
        raise ArgumentError('`prediction` should be finite. Found NaN or infinity.')
    return label > 0, np.maximum(label.astype(np.float64), DEPTH_FLOOR), np.maximum(prediction.astype(np.float64), DEPTH_FLOOR)


def _check_shapes(label: np.ndarray, prediction: np.ndarray) -> None:
    if label.shape != prediction.shape:
        raise ArgumentError(f'`label` and `prediction` should have the same shape. Found {label.shape} and {prediction.shape}.')
