"""Scores of predictions against folders of label files."""

import logging
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np

from mtl_plugins.errors import DataError, DataNotFoundError
from mtl_plugins.evaluation.scores import multitask_scores
from mtl_plugins.labels.label_kind import LabelKind
from mtl_plugins.labels.presets import build_labels, miniscapes_labels
from mtl_plugins.utils.files import natural_order


class LabelFiles(NamedTuple):
    """Label files of one kind by stem, in natural order."""

    kind: LabelKind
    paths: Mapping[str, Path]


def find_labels(folder: str | Path) -> dict[str, LabelFiles]:
    """Return the kind and the files of each label with a folder of its name in ``folder``.

    The kinds are MiniScapes', or those of a ``dataset.json`` in ``folder`` or up to two folders above. Files are PNG, or have the
    suffix that the description names.

    Raises:
        DataNotFoundError: If there is no such folder or one is empty.
        DataError: If ``dataset.json`` is damaged.
    """
    found, configs = {}, miniscapes_labels(folder)
    for name, kind in build_labels(configs).items():
        label_folder = Path(folder) / name
        if label_folder.is_dir():
            found[name] = LabelFiles(kind, _list_labels(label_folder, kind))
    if not found:
        names = ' and/or '.join(configs)
        raise DataNotFoundError(f"The folder '{folder}' has none of the label folders {names}. Give the folder that holds them.")
    return found


def _list_labels(folder: Path, kind: LabelKind) -> dict[str, Path]:
    if len(kind.templates) > 1:
        raise DataError(
            f'Labels in a folder should be one file each. The label `{kind.name}` needs {kind.templates[1]} as well: convert the '
            'data with `mtl data convert`.'
        )
    suffixes = ('.png', Path(kind.templates[0]).suffix.lower())
    # Of two files of one name the one with the described suffix counts.
    files = sorted(folder.iterdir(), key=lambda path: (path.suffix.lower() == suffixes[1], path.name))
    files = [path for path in files if not path.name.startswith('.')]
    paths = {path.stem: path for path in files if path.suffix.lower() in suffixes}
    if not paths:
        raise DataNotFoundError(f"The label folder '{folder}' holds no file named <index>{suffixes[1]}.")
    left = sorted((path.name for path in files if paths.get(path.stem) != path), key=natural_order)
    if left:
        # No logger of mmengine's: it imports torch, which a grader does not need.
        logging.getLogger(__name__).warning("'%s' has %d labels. Left out: %s.", folder, len(paths), ', '.join(left[:3]))
    return {stem: paths[stem] for stem in sorted(paths, key=natural_order)}


def score_predictions(
    labels: Mapping[str, LabelFiles], predict: Callable[[str, str, tuple[int, int]], np.ndarray], num_threads: int = 2
) -> dict[str, float]:
    """Return all scores of validation for predictions in the form in which they are submitted, in constant memory.

    ``predict(name, stem, (height, width))`` gives the codes of a prediction of that size; several threads call it.

    Raises:
        DataError: If a label is broken, or none has a valid pixel for a task.
    """
    scores: dict[str, float] = {}
    with ThreadPoolExecutor(num_threads) as pool:
        for name, (kind, paths) in labels.items():
            scorer = kind.scorer()

            def compare(item: tuple[str, Path], name=name, kind=kind, scorer=scorer):
                stem, path = item
                stored = kind.decode(str(path))
                codes = predict(name, stem, stored.shape[:2])
                return scorer.measure(kind.to_values(stored), kind.code_values(codes))

            for measured in pool.map(compare, paths.items()):
                scorer.add(measured)
            if scorer.is_empty():
                raise DataError(f'The {name} labels have {scorer.empty}: there is nothing to score.')
            scores |= scorer.scores()
    return scores | multitask_scores(scores)
