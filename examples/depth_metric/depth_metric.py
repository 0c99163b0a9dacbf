"""A metric outside the package: one function and one line. A config names this module in ``custom_imports``."""

import numpy as np

from mtl_plugins.evaluation.functional.depth_errors import DepthScorer


@DepthScorer.register('median_rel', 'median relative error', unit='%', higher_is_better=False)
def median_relative_error(label: np.ndarray, prediction: np.ndarray) -> float:
    """Return the median of ``|pred - gt| / gt`` of an image in per cent; NaN without a valid pixel."""
    valid = label > 0
    return 100 * float(np.median(np.abs(prediction[valid] / label[valid] - 1))) if valid.any() else np.nan
