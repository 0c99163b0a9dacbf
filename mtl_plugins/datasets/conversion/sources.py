"""The data sets that can be converted, and which of their splits."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mtl_plugins.datasets.loading.labelled_dataset import LabelledDataset
from mtl_plugins.datasets.nyuv2.nyuv2 import IMAGES, NYUv2MatDataset
from mtl_plugins.errors import ArgumentError, ConfigError, DataNotFoundError
from mtl_plugins.labels.presets import DESCRIPTION, build_labels
from mtl_plugins.registry import DATASETS
from mtl_plugins.utils.config_classes import accepted_arguments
from mtl_plugins.utils.data_files import ANY, is_text, read_json, shorten

KINDS = dict(cityscapes='CityscapesDataset', synscapes='SynscapesDataset', nyuv2='NYUv2Dataset', folders='MultiTaskDataset')
FOLDERS = 'folders'
_IMAGES = 'images/{split}/{stem}.jpg'
_FORM = dict(labels={ANY: {ANY: None}}, image=is_text, stem=is_text, split_file=is_text)


def open_source(
    kind: str,
    root: str | Path,
    splits: Mapping[str, str] | None = None,
    labels: Sequence[str] | None = None,
    labels_file: str | Path | None = None,
    num_classes: int | None = None,
) -> tuple[dict[str, LabelledDataset], dict[str, str]]:
    """Open the splits of a data set; return them, and why usual splits are left out, by the name that they get.

    Args:
        kind: One of ``KINDS``.
        splits: Names in the source by the names that the splits get; by default the usual ones that exist.
        labels: Which labels to read; by default all that it offers.
        labels_file: For ``folders``, what to read instead of ``<root>/dataset.json``, see :func:`read_folders`.
        num_classes: As the class of the data set takes it.

    Raises:
        UserError: If an argument does not suit the kind, or there is no split, or not the one that was named.
    """
    if kind not in KINDS:
        raise ArgumentError(f'`kind` should be one of {list(KINDS)}. Found {kind!r}.')
    if labels_file is not None and kind != FOLDERS:
        raise ConfigError(f'A labels file describes the kind `{FOLDERS}`; the labels of {kind} are known.')
    root = Path(root)
    if not root.exists():
        raise DataNotFoundError(f"The source '{root}' does not exist.")
    description = read_folders(root, labels_file) if kind == FOLDERS else {}
    # Configs train on `train`, validate on `val` and predict `test`.
    usual, cls = dict(train='train', val='val', test='test'), DATASETS.get(KINDS[kind])
    if kind == 'nyuv2' and (root / IMAGES).exists():
        # The official test split has labels and is what models are compared on.
        usual, cls = dict(train='train', val='test'), NYUv2MatDataset
    arguments = dict(description)
    if num_classes is not None:
        if 'num_classes' not in accepted_arguments(cls):
            raise ConfigError(f'`num_classes` of {cls.__name__} cannot be chosen.')
        arguments['num_classes'] = num_classes
    opened: dict[str, LabelledDataset] = {}
    left_out: dict[str, str] = {}
    wanted = usual if splits is None else splits
    for name, split in wanted.items():
        try:
            opened[name] = _open_split(cls, dict(arguments, data_root=str(root), split=split), labels)
        except DataNotFoundError as error:
            if splits is not None:
                raise
            left_out[name] = str(error)
    if splits is None and description.get('image') == _IMAGES:
        others = [path.name for path in (root / 'images').iterdir() if path.is_dir() and path.name not in wanted.values()]
        left_out |= {name: f'Name it with `--splits {name}`.' for name in others if not name.startswith('.')}
    if not opened:
        raise DataNotFoundError(
            f"The source '{root}' has none of the splits {', '.join(wanted.values())} (others are named as in `train=training`): "
            f'{next(iter(left_out.values()))}'
        )
    return opened, left_out


def _open_split(cls: type[LabelledDataset], arguments: dict[str, Any], labels: Sequence[str] | None) -> LabelledDataset:
    offered = tuple(cls.offered_labels(arguments))
    arguments['tasks'] = offered if labels is None else labels
    # A label that was not downloaded, or that some samples lack, is left out.
    if 'missing_labels' in accepted_arguments(cls):
        arguments['missing_labels'] = [name for name in arguments['tasks'] if name in offered]
    dataset = cls(**arguments)
    # What lies beyond a range is counted when it is stored, and another range may be asked for.
    configs = {name: {**config} for name, config in dataset.metainfo['labels'].items()}
    for config in configs.values():
        if config.get('within_range'):
            config['within_range'] = False
    dataset.labels = build_labels(configs)
    return dataset


def read_folders(root: Path, path: str | Path | None = None) -> dict[str, Any]:
    """Arguments of :class:`MultiTaskDataset` for plain folders, from ``<root>/dataset.json`` or the JSON file ``path``.

    The file is an object with ``labels``, a config by name, and where the layout is another one ``image``, ``stem`` and
    ``split_file``. By default the layout is that of mmseg: ``images/<split>/<stem>.jpg``, or of
    another format that can be read, in subfolders, too, ``annotations/<split>/<stem>.png`` for the label ``semseg``, and
    ``<label>/<split>/<stem>.png`` for others; the ``path`` of a label replaces its template.
    """
    path = Path(path) if path is not None else root / DESCRIPTION
    if not path.exists():
        raise DataNotFoundError(
            f"'{path}' should describe the labels, as in "
            '{"labels": {"semseg": {"type": "ClassMap", "classes": ["road", "car"]}}}. It does not exist.'
        )
    content = read_json(path, 'description', _FORM)
    labels = {name: dict(config or {}) for name, config in (content.get('labels') or {}).items()}
    unknown = [key for key in content if key not in _FORM]
    if unknown or not labels:
        found = f'{unknown[0]!r}' if unknown else 'no label'
        raise ConfigError(f"'{path}' should hold `labels`, not empty, and perhaps `image`, `stem`, `split_file`. Found {found}.")
    try:
        re.compile(content.get('stem', ''))
    except re.error as error:
        raise ConfigError(
            f"`stem` in '{path}' should be a regular expression. Found {shorten(content['stem'])} ({error})."
        ) from error
    for name, config in labels.items():
        config.setdefault('path', ('annotations' if name == 'semseg' else name) + '/{split}/{stem}.png')
    stem = {} if 'split_file' in content else dict(stem='[^/]+(?:/[^/]+)*')
    return dict(image=_IMAGES) | stem | content | dict(labels=labels)
