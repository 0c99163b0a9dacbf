"""Writes splits of any data set as a folder of MiniScapes' layout, and goes on where an earlier run was cut off."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import cv2
import numpy as np

from mtl_plugins.datasets.conversion.folder import SplitFolders, describe_labels, record_options
from mtl_plugins.datasets.loading.labelled_dataset import LabelledDataset
from mtl_plugins.datasets.packing.packed import Sample
from mtl_plugins.errors import ArgumentError, ConfigError, DataError
from mtl_plugins.labels.label_kind import LabelKind
from mtl_plugins.labels.presets import build_label
from mtl_plugins.utils.files import describe_os_error, make_folder, replacing
from mtl_plugins.utils.threads import map_in_order


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


FORMAT_VERSION = 1
JPEG_QUALITY = 95


# Of each label, by name: pixels that count in the source, and those of them that the files to write cannot hold.
Losses = Counter[tuple[str, str]]
Progress = Callable[[Iterator[Losses], str, int, int], Iterable[Losses]]


class SplitReport(NamedTuple):
    """What became of a split.

    Attributes:
        num_samples: Samples it has.
        num_new: Those that this run wrote.
        num_labelled: Samples with each label, by name.
        lost: Share of the pixels that count in the source, but not in the files, by label; of the samples that this run wrote.
    """

    num_samples: int
    num_new: int
    num_labelled: dict[str, int]
    lost: dict[str, float]


def convert(
    datasets: Mapping[str, LabelledDataset],
    out: str | Path,
    origin: Mapping[str, Any],
    size: tuple[int, int] | None = None,
    changes: Mapping[str, Any] = MappingProxyType({}),
    workers: int = 2,
    progress: Progress = lambda losses, split, total, done: losses,
) -> dict[str, SplitReport]:
    """Make the folder ``out`` of data sets, or go on making it.

    Samples are numbered in the order of the data set, see ``<split>/sources.csv``. Each gets ``<split>/rgb/<index>.jpg`` and
    ``<split>/<label>/<index>.png`` of those labels that it has; labels of ``test`` lie apart, in ``grader/test``.
    ``dataset.json`` describes the labels. ``conversion.json`` is written first and holds the options. A label of which no pixel
    counts in a whole split is left out.

    Args:
        datasets: Data set of each split by the name that it gets.
        out: Folder to make: new, empty, or of the same conversion.
        origin: What tells this source from others, as JSON knows it.
        size: Height and width to cut and scale to, see :func:`fit_sample`; by default each sample keeps its own.
        changes: Entries of the written labels' configs to replace, where they have them; by default they are the data set's.
        workers: Threads.
        progress: Wraps the iterator over the samples of a split that are left to write; it also gets the name of the split, its
            number of samples and how many of them are written.

    Raises:
        ArgumentError: If ``size`` is not positive.
        ConfigError: If one of ``changes`` is wrong, or a label is of a kind that cannot be converted.
        DataError: If ``out`` holds something else or was begun with other options or samples, no sample of a split other than
            ``test`` has a label, a file of the source cannot be used, or writing fails. What is written stays, and the same call
            goes on from there.
    """
    if size is not None and min(size) < 1:
        raise ArgumentError(f'`size` should be at least 1x1. Found {size[0]}x{size[1]}.')
    out = Path(out)
    labels = _plain_labels(datasets.values(), changes)
    configs = {name: kind.plain_config() for name, kind in labels.items()}
    present = {name: _present_labels(dataset) for name, dataset in datasets.items()}
    for name, dataset in datasets.items():
        if not present[name] and name != 'test':
            templates = [kind.templates[0].replace('{name}', label) for label, kind in dataset.labels.items()]
            raise DataError(
                f"The split '{dataset.split}' of '{dataset.data_root}' should have labels, in {', '.join(templates)}. Found none "
                f'for any of its {len(dataset)} images.'
            )
    origins = {name: dict(split=dataset.split, labels=present[name]) for name, dataset in datasets.items()}
    # Samples run in parallel already.
    cv2.setNumThreads(0)
    reports = {}
    try:
        all_splits = record_options(out, dict(version=FORMAT_VERSION, **origin, size=size, labels=configs, splits=origins))
        for name, dataset in datasets.items():
            split, losses, num_done = SplitFolders(out, name), Losses(), len(dataset)
            split.record_origins(dataset.stems)
            if not split.is_complete:
                left = [index for index in range(len(dataset)) if not split.image_path(index).exists()]
                num_done -= len(left)
                kinds = {label: labels[label] for label in present[name]}
                write = partial(_write_sample, split=split, dataset=dataset, labels=kinds, size=size)
                for sample_losses in progress(map_in_order(write, left, workers), name, len(dataset), num_done):
                    losses.update(sample_losses)
                _remove_blank_labels(split, labels)
                known = {other: SplitFolders(out, other) for other in all_splits}
                describe_labels(out, {key: each for key, each in known.items() if each.is_complete or key == name}, labels)
                split.complete()
            labelled = {label: len(split.label_paths(label)) for label in labels}
            lost = {label: losses[label, 'lost'] / losses[label, 'known'] for label in labels if losses[label, 'lost']}
            reports[name] = SplitReport(len(dataset), len(dataset) - num_done, labelled, lost)
    except OSError as error:
        raise DataError(f'{describe_os_error(error, out)} What is written stays; the same command goes on from there.') from error
    return reports


def _plain_labels(datasets: Iterable[LabelledDataset], changes: Mapping[str, Any]) -> dict[str, LabelKind]:
    """The kinds of the files to write, by name."""
    configs = {name: kind.plain_config() for dataset in datasets for name, kind in dataset.labels.items()}
    unused = [key for key in changes if not any(key in config for config in configs.values())]
    if unused:
        raise ConfigError(f'`{unused[0]}` should be left out where no label has it. Found the labels {list(configs)}.')
    return {
        name: build_label(name, {key: changes.get(key, value) for key, value in config.items()})
        for name, config in configs.items()
    }


def _present_labels(dataset: LabelledDataset) -> list[str]:
    """Names of the labels that at least one sample has."""
    found: set[str] = set()
    for position in range(len(dataset)):
        # Data sets without a file per label say nothing about labels here, and have them.
        found.update(dataset.get_data_info(position).get('label_paths', dataset.labels))
    return [name for name in dataset.labels if name in found]


def _remove_blank_labels(split: SplitFolders, labels: Mapping[str, LabelKind]) -> None:
    """Remove the labels of which no pixel of the split counts."""
    for name, kind in labels.items():
        paths = split.label_paths(name)
        if not any(kind.valid(kind.decode(str(path))).any() for path in paths):
            split.remove_label(name)


def _write_sample(
    position: int, split: SplitFolders, dataset: LabelledDataset, labels: Mapping[str, LabelKind], size: tuple[int, int] | None
) -> Losses:
    """Convert the sample at a position. The image is written last: a sample that has one is complete.

    A grader compares all predictions of a test split, so what lacks a label there gets one in which nothing counts.
    """
    sample = fit_sample(dataset.read_sample(position), size)
    losses = Losses()
    for name, plain in labels.items():
        if plain.key in sample:
            kind, found = dataset.labels[name], sample[plain.key]
            stored = kind.to_plain(found, plain)
            known = kind.valid(found)
            losses[name, 'known'] = int(known.sum())
            losses[name, 'lost'] = int((known & ~plain.valid(stored)).sum())
        elif split.name == 'test':
            stored = plain.blank(sample['img'].shape[:2])
        else:
            continue
        _write(split.label_path(name, position), plain.to_label_png(stored))
    bgr = cv2.cvtColor(sample['img'], cv2.COLOR_RGB2BGR)
    encoded = cv2.imencode('.jpg', bgr, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])[1]
    _write(split.image_path(position), encoded.tobytes())
    return losses


def _write(path: Path, content: bytes) -> None:
    make_folder(path.parent, DataError)
    with replacing(path, DataError) as temporary:
        temporary.write_bytes(content)
