"""Scores of a submission archive against labels: the numbers that validation gives on the same (quantised) predictions."""

from pathlib import Path

import numpy as np

from mtl_plugins.errors import InvalidPredictionError, SubmissionError
from mtl_plugins.evaluation.label_folder import find_labels, score_predictions
from mtl_plugins.labels.presets import miniscapes_labels
from mtl_plugins.submission.archive import PREDICTIONS, check_names
from mtl_plugins.submission.zip_reader import SubmissionZip

# A PNG of noise is hardly larger than its pixels; the rest is room for metadata.
_SPARE_BYTES = 2**16


def grade_submission(archive: str | Path, labels: str | Path) -> dict[str, float]:
    """All scores of an archive, under the names of validation.

    A task counts if the archive has predictions and ``labels`` has a folder for it; ``metrics_summary/multitask`` is 0
    unless both do.

    Args:
        archive: A submission archive; not trusted.
        labels: Folder that holds ``<label>/<index>.png``; see :func:`find_labels`.

    Raises:
        SubmissionError: If the archive is unreadable, unsafe, or holds no predictions for the labels.
        InvalidPredictionError: If a prediction is missing, superfluous or not what the format asks for.
        DataError: If the labels are missing, broken, or have no valid pixel for a task.
    """
    label_files = find_labels(labels)
    with SubmissionZip(archive, miniscapes_labels(labels)) as submission:
        graded = {name: files for name, files in label_files.items() if name in submission.predictions}
        if not graded:
            raise SubmissionError(
                f'The archive holds predictions for {" and ".join(submission.predictions)}, '
                f'the labels in {labels} are for {" and ".join(label_files)}.'
            )
        for name, files in graded.items():
            found = {f'{stem}.png' for stem in submission.predictions[name]}
            check_names(f'{PREDICTIONS}/{name}', found, {f'{stem}.png' for stem in files.paths})

        def predict(name: str, stem: str, size: tuple[int, int]) -> np.ndarray:
            kind = graded[name].kind
            data = submission.read(name, stem, max_bytes=2 * kind.blank(size).size + _SPARE_BYTES)
            try:
                return kind.from_png(data, size)
            except InvalidPredictionError as error:
                raise InvalidPredictionError(f'{PREDICTIONS}/{name}/{stem}.png {error}') from error

        return score_predictions(graded, predict)
