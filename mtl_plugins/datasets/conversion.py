"""Other data sets turned into a folder of MiniScapes' layout."""

import csv
import json
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np

from mtl_plugins.datasets.loading.labelled_dataset import LabelledDataset
from mtl_plugins.datasets.nyuv2 import IMAGES, NYUv2MatDataset
from mtl_plugins.datasets.packing.packed import Sample
from mtl_plugins.errors import ArgumentError, ConfigError, DataError, DataNotFoundError, check_choice
from mtl_plugins.labels.label_kind import LabelKind
from mtl_plugins.labels.presets import ANY_STEM, DESCRIPTION, FOLDERS_IMAGE, FORM, build_label, build_labels, check_stem
from mtl_plugins.registry import DATASETS
from mtl_plugins.utils.cli import track
from mtl_plugins.utils.config_classes import accepted_arguments
from mtl_plugins.utils.data_files import ANY, read_json
from mtl_plugins.utils.files import new_folder
from mtl_plugins.utils.threads import map_in_order

KINDS = dict(
    cityscapes='CityscapesDataset',
    synscapes='SynscapesDataset',
    nyuv2='NYUv2Dataset',
    camvid='CamVidDataset',
    folders='MultiTaskDataset',
)
FOLDERS = 'folders'
# Keys of a description that a conversion does not need: `--splits` names the splits.
_TRAINING_ONLY = ('missing_labels', 'splits', 'val_every')


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
        splits: Names in the source by the names that the splits get; by default the usual ones that exist.
        labels_file: For ``folders``, what to read instead of ``<root>/dataset.json``, see :func:`read_folders`.

    Raises:
        UserError: If an argument does not suit the kind, or there is no split, or not the one that was named.
    """
    check_choice('kind', kind, list(KINDS))
    if labels_file is not None and kind != FOLDERS:
        raise ConfigError(f'A labels file describes the kind `{FOLDERS}`; the labels of {kind} are known.')
    root = Path(root)
    if not root.exists():
        raise DataNotFoundError(f"The source '{root}' does not exist.")
    description = read_folders(root, labels_file) if kind == FOLDERS else {}
    # Configs train on `train`, validate on `val` and predict `test`.
    usual, cls = dict(train='train', val='val', test='test'), DATASETS.get(KINDS[kind])
    if kind == 'nyuv2':
        # The official test split has labels and is what models are compared on.
        usual = dict(train='train', val='test')
        cls = NYUv2MatDataset if (root / IMAGES).exists() else cls
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
    if splits is None and description.get('image') == FOLDERS_IMAGE:
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
    content = read_json(path, 'description', dict(FORM, labels={ANY: {ANY: None}}))
    content = {key: value for key, value in content.items() if key not in _TRAINING_ONLY}
    labels = {name: dict(config or {}) for name, config in (content.get('labels') or {}).items()}
    unknown = [key for key in content if key not in FORM]
    if unknown or not labels:
        found = f'{unknown[0]!r}' if unknown else 'no label'
        raise ConfigError(f"'{path}' should hold `labels`, not empty, and perhaps `image`, `stem`, `split_file`. Found {found}.")
    check_stem(content.get('stem', ''), path)
    for name, config in labels.items():
        config.setdefault('path', ('annotations' if name == 'semseg' else name) + '/{split}/{stem}.png')
    stem = {} if 'split_file' in content else dict(stem=ANY_STEM)
    return dict(image=FOLDERS_IMAGE) | stem | content | dict(labels=labels)


def centre_window(shape: tuple[int, int], size: tuple[int, int]) -> tuple[slice, slice]:
    """Rows and columns of the largest centred window of ``shape`` (height, width) with the proportions of ``size``.

    Its longer side is rounded to whole pixels; of an odd number of spare pixels the last rows or columns lose one more.
    """
    height, width = shape
    if width * size[0] >= height * size[1]:
        width = max(round(height * size[1] / size[0]), 1)
    else:
        height = max(round(width * size[0] / size[1]), 1)
    top, left = (shape[0] - height) // 2, (shape[1] - width) // 2
    return slice(top, top + height), slice(left, left + width)


def fit_sample(sample: Sample, size: tuple[int, int] | None) -> Sample:
    """A sample cut to the proportions of ``size`` (height, width), by :func:`centre_window`, and scaled to it.

    Pixel centres correspond: output pixel ``i`` of ``n`` lies at ``(i + 0.5) * m / n - 0.5`` of ``m`` input pixels. Images are
    averaged over areas where they shrink and bilinear where they grow. Every other map takes the value of the nearest pixel, so
    no value appears that was not there. Without ``size`` nothing changes.
    """
    if size is None:
        return sample
    shape = sample['img'].shape[:2]
    rows, columns = centre_window(shape, size)
    window = {key: np.ascontiguousarray(array[rows, columns]) for key, array in sample.items()}
    height, width = window['img'].shape[:2]
    if (height, width) == tuple(size):
        return window
    smooth = cv2.INTER_AREA if size[0] * size[1] < height * width else cv2.INTER_LINEAR
    return {
        key: cv2.resize(array, size[::-1], interpolation=smooth if key == 'img' else cv2.INTER_NEAREST_EXACT)
        for key, array in window.items()
    }


JPEG_QUALITY = 95


# Of each label, by name: maps, pixels that count in the source, and those of them that the files cannot hold, or hold.
Counts = Counter[tuple[str, str]]


class SplitReport(NamedTuple):
    """The outcome of a split: its samples, those with each label, and the share of known pixels that the files cannot hold."""

    num_samples: int
    num_labelled: dict[str, int]
    lost: dict[str, float]


def convert(
    datasets: Mapping[str, LabelledDataset],
    out: str | Path,
    size: tuple[int, int] | None = None,
    depth_range: Sequence[float] | None = None,
    workers: int = 2,
) -> dict[str, SplitReport]:
    """Make the folder ``out``, which is new or empty, of the data set of each split; it appears when it is complete.

    Samples are numbered in the order of the data set, see ``<split>/sources.csv``. Each gets ``<split>/rgb/<index>.jpg`` and
    ``<split>/<label>/<index>.png`` of those labels that it has; labels of ``test`` lie apart, in ``grader/test``.
    ``dataset.json`` describes the labels. A label of which no pixel counts in a whole split is left out.

    Args:
        size: Height and width to cut and scale to, see :func:`fit_sample`; by default each sample keeps its own.
        depth_range: Metres of the written codes of depth; by default those of the data set.

    Raises:
        UserError: If an argument is wrong, a label cannot be converted, ``out`` holds something, no sample of a split other than
            ``test`` has a label, a file of the source cannot be used, or writing fails.
    """
    if size is not None and min(size) < 1:
        raise ArgumentError(f'`size` should be at least 1x1. Found {size[0]}x{size[1]}.')
    labels = _plain_labels(datasets.values(), depth_range)
    present = {}
    for split, dataset in datasets.items():
        infos = (dataset.get_data_info(position) for position in range(len(dataset)))
        # Data sets without a file per label say nothing about labels here, and have them.
        found = {name for info in infos for name in info.get('label_paths', dataset.labels)}
        present[split] = [name for name in dataset.labels if name in found]
    for name, dataset in datasets.items():
        if not present[name] and name != 'test':
            templates = [kind.templates[0].replace('{name}', label) for label, kind in dataset.labels.items()]
            raise DataError(
                f"The split '{dataset.split}' of '{dataset.data_root}' has no label for any of its "
                f'{len(dataset)} images. They should be in {", ".join(templates)}.'
            )
    # Samples run in parallel already.
    cv2.setNumThreads(0)
    reports = {}
    with new_folder(Path(out)) as folder:
        for name, dataset in datasets.items():
            kinds = {label: labels[label] for label in present[name]}
            samples = _write_split(folder, name, dataset, kinds, size, workers)
            counts = sum(track(samples, len(dataset), name), Counts())
            for label in kinds:
                if not counts[label, 'kept']:
                    shutil.rmtree(_label_folder(folder, name, label))
                    counts[label, 'maps'] = 0
            labelled = {label: counts[label, 'maps'] for label in labels}
            lost = {label: counts[label, 'lost'] / counts[label, 'known'] for label in labels if counts[label, 'lost']}
            reports[name] = SplitReport(len(dataset), labelled, lost)
        _describe_labels(folder, labels, reports)
    return reports


def _plain_labels(datasets: Iterable[LabelledDataset], depth_range: Sequence[float] | None) -> dict[str, LabelKind]:
    """The kinds of the files to write, by name."""
    configs = {name: kind.plain_config() for dataset in datasets for name, kind in dataset.labels.items()}
    if depth_range is not None:
        ranged = [config for config in configs.values() if 'depth_range' in config]
        if not ranged:
            raise ConfigError(f'`depth_range` should be left out where no label has it. Found the labels {list(configs)}.')
        for config in ranged:
            config['depth_range'] = depth_range
    return {name: build_label(name, config) for name, config in configs.items()}


def _label_folder(folder: Path, split: str, label: str) -> Path:
    return folder / 'grader' / split / label if split == 'test' else folder / split / label


def _write_split(
    folder: Path,
    name: str,
    dataset: LabelledDataset,
    labels: Mapping[str, LabelKind],
    size: tuple[int, int] | None,
    workers: int,
) -> Iterator[Counts]:
    """Write the samples of a split in order, and give the counts of each."""
    images = folder / name / 'rgb'
    for place in (images, *(_label_folder(folder, name, label) for label in labels)):
        place.mkdir(parents=True)
    with (folder / name / 'sources.csv').open('w', encoding='utf-8', newline='') as file:
        csv.writer(file, lineterminator='\n').writerows([('index', 'stem'), *enumerate(dataset.stems)])

    def write(position: int) -> Counts:
        sample = fit_sample(dataset.read_sample(position), size)
        counts = Counts()
        for label, plain in labels.items():
            if plain.key in sample:
                kind, found = dataset.labels[label], sample[plain.key]
                stored, known = kind.to_plain(found, plain), kind.valid(found)
                counts[label, 'known'] = int(known.sum())
                counts[label, 'lost'] = int((known & ~plain.valid(stored)).sum())
            elif name == 'test':
                # A grader compares all predictions of a test split.
                stored = plain.blank(sample['img'].shape[:2])
            else:
                continue
            counts[label, 'maps'] = 1
            counts[label, 'kept'] = int(plain.valid(stored).sum())
            (_label_folder(folder, name, label) / f'{position}.png').write_bytes(plain.to_label_png(stored))
        bgr = cv2.cvtColor(sample['img'], cv2.COLOR_RGB2BGR)
        encoded = cv2.imencode('.jpg', bgr, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])[1]
        (images / f'{position}.jpg').write_bytes(encoded.tobytes())
        return counts

    return map_in_order(write, range(len(dataset)), workers)


def _describe_labels(folder: Path, labels: Mapping[str, LabelKind], reports: Mapping[str, SplitReport]) -> None:
    """Write ``dataset.json``: the labels that there are, and which of them samples lack."""
    # Nothing but a test split without labels: what a model may predict.
    names = [name for name in labels if any(report.num_labelled[name] for report in reports.values())] or list(labels)
    # The labels of the test split may always be missing.
    needed = {split: report for split, report in reports.items() if split != 'test'}
    missing = [name for name in names if any(each.num_labelled[name] < each.num_samples for each in needed.values())]
    description: dict[str, Any] = dict(labels={name: labels[name].plain_config() for name in names})
    if missing:
        description['missing_labels'] = missing
    (folder / DESCRIPTION).write_text(json.dumps(description, indent=2) + '\n', encoding='utf-8')
