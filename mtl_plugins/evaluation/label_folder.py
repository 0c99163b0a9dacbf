"""Scores of uint8 maps (class ids, depth codes) against folders of label files: what grader and baselines share."""

import re
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from mtl_plugins.datasets.multitask.split_listing import TASKS
from mtl_plugins.errors import DataError, DataNotFoundError
from mtl_plugins.evaluation.functional.confusion_matrix import new_confusion_matrix, update_confusion_matrix
from mtl_plugins.evaluation.functional.depth_errors import DepthErrorSum, image_depth_errors
from mtl_plugins.evaluation.functional.scores import SUMMARY_MULTITASK, depth_scores, multitask_score, semseg_scores
from mtl_plugins.labels.cityscapes_classes import CLASSES
from mtl_plugins.labels.decoding import decode_depth_code, decode_label
from mtl_plugins.labels.depth_codec import decode_depth

_LABEL_NAME = re.compile(r'\d+\.png')

LabelFiles = Mapping[str, Mapping[str, Path]]
Predict = Callable[[str, str, tuple[int, int]], np.ndarray]


def find_labels(folder: str | Path) -> dict[str, dict[str, Path]]:
    """For each task with a folder of its name in ``folder``: the label files by stem, in the order of their index.

    Raises:
        DataNotFoundError: If there is no such folder or one is empty.
    """
    found = {}
    for task in TASKS:
        task_folder = Path(folder) / task
        if task_folder.is_dir():
            paths = [path for path in task_folder.iterdir() if _LABEL_NAME.fullmatch(path.name)]
            if not paths:
                raise DataNotFoundError(f"The label folder '{task_folder}' holds no file named <index>.png.")
            found[task] = {path.stem: path for path in sorted(paths, key=lambda path: int(path.stem))}
    if not found:
        raise DataNotFoundError(f"The folder '{folder}' should hold the label folders semseg and/or depth. Found neither.")
    return found


def score_predictions(label_files: LabelFiles, predict: Predict, num_threads: int = 2) -> dict[str, float]:
    """All scores of validation for predictions in the form in which they are submitted.

    Args:
        label_files: The tasks to score and their files, see :func:`find_labels`.
        predict: ``predict(task, stem, (height, width))`` gives a uint8 map of that size: class ids 0..18, or depth codes.
            Called from several threads.
        num_threads: Threads that decode and compare; memory does not depend on the number of images.

    Raises:
        DataError: If a label is broken, or no label has a valid pixel for a task: no number says that honestly.
    """
    with ThreadPoolExecutor(num_threads) as pool:
        scores: dict[str, float] = {}
        for task, paths in label_files.items():
            scores |= (_score_semseg if task == 'semseg' else _score_depth)(paths, predict, pool)
    return scores | {SUMMARY_MULTITASK: multitask_score(scores)}


def _score_semseg(paths: Mapping[str, Path], predict: Predict, pool: ThreadPoolExecutor) -> dict[str, float]:
    def compare(stem: str) -> np.ndarray:
        label = decode_label(str(paths[stem]))
        confusion = new_confusion_matrix(len(CLASSES))
        update_confusion_matrix(confusion, label, predict('semseg', stem, label.shape))
        return confusion

    total = new_confusion_matrix(len(CLASSES))
    for confusion in pool.map(compare, paths):
        total += confusion
    if not total.any():
        raise DataError('The semseg labels have no pixel of any class: there is nothing to score.')
    return semseg_scores(total, CLASSES)


def _score_depth(paths: Mapping[str, Path], predict: Predict, pool: ThreadPoolExecutor) -> dict[str, float]:
    def compare(stem: str) -> np.ndarray | None:
        label = decode_depth_code(str(paths[stem]))
        return image_depth_errors(decode_depth(label), decode_depth(predict('depth', stem, label.shape)))

    total = DepthErrorSum()
    for errors in pool.map(compare, paths):
        total.add(errors)
    if not total.num_images.any():
        raise DataError('The depth labels have no valid pixel: there is nothing to score.')
    return depth_scores(total)
