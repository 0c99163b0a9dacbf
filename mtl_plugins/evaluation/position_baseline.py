"""The best guess without looking at the image: most frequent class, median depth, mean normal of each pixel position.

What a model must beat to show that it sees something. The guesses are learned from the training labels, one file at a time;
the counters of classes and depth take ``4 * H * W * (20 + 256)`` bytes, 145 MB for 256x512.
"""

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from mtl_plugins.errors import DataError
from mtl_plugins.evaluation.label_folder import find_labels, score_predictions


def fit_position_baseline(labels: str | Path) -> dict[str, np.ndarray]:
    """The guess for each label, as the codes of a submission; see :meth:`LabelKind.guess`.

    A position that never had a valid label gets the guess made from all positions together.

    Args:
        labels: Folder with ``<label>/<index>.png``, such as ``<root>/train``.

    Raises:
        DataError: If the labels are missing, broken, of different sizes, or have no valid pixel.
    """
    found = find_labels(labels)

    def fit(name: str) -> np.ndarray:
        kind = found[name].kind
        return kind.guess(kind.decode(str(path)) for path in found[name].paths.values())

    with ThreadPoolExecutor(len(found)) as pool:
        return dict(zip(found, pool.map(fit, found), strict=True))


def score_position_baseline(baseline: Mapping[str, np.ndarray], labels: str | Path) -> dict[str, float]:
    """All scores of validation for the guesses of :func:`fit_position_baseline` on a folder of labels.

    Raises:
        DataError: If the labels are missing, broken, of another size, or lack a task.
    """

    def predict(task: str, stem: str, size: tuple[int, int]) -> np.ndarray:
        if baseline[task].shape[:2] != size:
            raise DataError(f'The baseline is for labels of the size {baseline[task].shape[:2]}. {task}/{stem}.png has {size}.')
        return baseline[task]

    label_files = find_labels(labels)
    missing = set(baseline) - set(label_files)
    if missing:
        raise DataError(f"The folder '{labels}' has no labels for {' and '.join(sorted(missing))}.")
    return score_predictions({task: label_files[task] for task in baseline}, predict)
