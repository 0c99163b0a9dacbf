"""Scores of a submission archive against labels: the numbers that validation gives on the same (quantised) predictions."""

import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from mtl_plugins.datasets.cityscapes_classes import CLASSES
from mtl_plugins.datasets.decoding import decode_depth_code, decode_label
from mtl_plugins.datasets.depth_codec import decode_depth
from mtl_plugins.datasets.errors import DataNotFoundError
from mtl_plugins.evaluation.functional.confusion_matrix import new_confusion_matrix, update_confusion_matrix
from mtl_plugins.evaluation.functional.depth_errors import DepthErrorSum, image_depth_errors
from mtl_plugins.evaluation.functional.scores import SUMMARY_MULTITASK, depth_scores, multitask_score, semseg_scores
from mtl_plugins.submission.errors import InvalidArchiveError, InvalidPredictionError
from mtl_plugins.submission.png_codec import TASKS, decode_prediction
from mtl_plugins.submission.prediction_folder import PREDICTIONS, check_names, stem_order
from mtl_plugins.submission.zip_reader import SubmissionZip

_LABEL_NAME = re.compile(r'\d+\.png')
# A PNG of noise is hardly larger than its pixels; the rest is room for metadata.
_SPARE_BYTES = 2**16


def grade_submission(archive: str | Path, labels: str | Path, num_threads: int = 2) -> dict[str, float]:
    """All scores of an archive, under the names of validation.

    A task counts if the archive has predictions and ``labels`` has a folder for it; ``metrics_summary/multitask`` is 0
    unless both do.

    Args:
        archive: A submission archive; not trusted.
        labels: Folder that holds ``semseg/<index>.png`` and/or ``depth/<index>.png``.
        num_threads: Threads that decode and compare.

    Raises:
        InvalidArchiveError: If the archive is unreadable, unsafe, or holds no predictions for the labels.
        InvalidPredictionError: If a prediction is missing, superfluous or not what the format asks for.
        DataError: If the labels are missing, broken, or have no valid pixel for a task.
    """
    label_files = find_labels(labels)
    with SubmissionZip(archive) as submission:
        tasks = [task for task in TASKS if task in label_files and task in submission.predictions]
        if not tasks:
            raise InvalidArchiveError(
                f'The archive holds predictions for {" and ".join(submission.predictions)}, '
                f'the labels in {labels} are for {" and ".join(label_files)}.'
            )
        for task in tasks:
            found = {f'{stem}.png' for stem in submission.predictions[task]}
            check_names(f'{PREDICTIONS}/{task}', found, {f'{stem}.png' for stem in label_files[task]})
        with ThreadPoolExecutor(num_threads) as pool:
            scores: dict[str, float] = {}
            for task in tasks:
                grade = _grade_semseg if task == 'semseg' else _grade_depth
                scores |= grade(submission, label_files[task], pool)
    return scores | {SUMMARY_MULTITASK: multitask_score(scores)}


def find_labels(labels: str | Path) -> dict[str, dict[str, Path]]:
    """For each task with a folder in ``labels``: the label files by stem, in the order of their index.

    Raises:
        DataNotFoundError: If there is no such folder or one is empty.
    """
    found = {}
    for task in TASKS:
        folder = Path(labels) / task
        if folder.is_dir():
            paths = [path for path in folder.iterdir() if _LABEL_NAME.fullmatch(path.name)]
            if not paths:
                raise DataNotFoundError(f"The label folder '{folder}' holds no file named <index>.png.")
            found[task] = {path.stem: path for path in sorted(paths, key=lambda path: stem_order(path.stem))}
    if not found:
        raise DataNotFoundError(f"The folder '{labels}' should hold the label folders semseg and/or depth. Found neither.")
    return found


def _grade_semseg(submission: SubmissionZip, paths: dict[str, Path], pool: ThreadPoolExecutor) -> dict[str, float]:
    def compare(stem: str) -> np.ndarray:
        label = decode_label(str(paths[stem]))
        confusion = new_confusion_matrix(len(CLASSES))
        update_confusion_matrix(confusion, label, _read_prediction(submission, 'semseg', stem, label.shape))
        return confusion

    total = new_confusion_matrix(len(CLASSES))
    for confusion in pool.map(compare, paths):
        total += confusion
    if not total.any():
        raise DataNotFoundError('The semseg labels have no pixel of any class: there is nothing to score.')
    return semseg_scores(total, CLASSES)


def _grade_depth(submission: SubmissionZip, paths: dict[str, Path], pool: ThreadPoolExecutor) -> dict[str, float]:
    def compare(stem: str) -> np.ndarray | None:
        label = decode_depth_code(str(paths[stem]))
        prediction = _read_prediction(submission, 'depth', stem, label.shape)
        return image_depth_errors(decode_depth(label), decode_depth(prediction))

    total = DepthErrorSum()
    for errors in pool.map(compare, paths):
        total.add(errors)
    if not total.num_images.any():
        raise DataNotFoundError('The depth labels have no valid pixel: there is nothing to score.')
    return depth_scores(total)


def _read_prediction(submission: SubmissionZip, task: str, stem: str, size: tuple[int, int]) -> np.ndarray:
    data = submission.read(task, stem, max_bytes=2 * size[0] * size[1] + _SPARE_BYTES)
    try:
        return decode_prediction(data, task, size)
    except InvalidPredictionError as error:
        raise InvalidPredictionError(f'{PREDICTIONS}/{task}/{stem}.png {error}') from error
