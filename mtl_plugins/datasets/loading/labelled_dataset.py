"""Data sets whose samples are drawn by a key: position and seed."""

import hashlib
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import cv2
import numpy as np
from mmengine.dataset import BaseDataset
from mmengine.dataset import ConcatDataset as MMEngineConcatDataset
from mmengine.dataset import RepeatDataset as MMEngineRepeatDataset

from mtl_plugins.datasets.packing.packed import Sample, decode_map, decode_sample
from mtl_plugins.datasets.transforms.foreign import build_transform
from mtl_plugins.errors import ArgumentError
from mtl_plugins.labels.label_kind import LabelKind
from mtl_plugins.labels.presets import build_labels
from mtl_plugins.registry import DATASETS


class SampleKey(NamedTuple):
    """One draw of a sample.

    Attributes:
        index: Position in the dataset.
        epoch: How often the data had been passed over before this draw.
        seed: Seed of the run.
        position: Where the sample lies in a data set that holds this one several times or beside others; None: at ``index``.
    """

    index: int
    epoch: int = 0
    seed: int = 0
    position: int | None = None

    def rng(self) -> np.random.Generator:
        """A generator that depends on this key alone, so that workers, threads and ranks hold no random state."""
        return np.random.default_rng([self.seed, self.epoch, self.index])


class KeyedDataset(BaseDataset):
    """mmengine's data set, asked by an int or a `SampleKey`.

    The pipeline gets the sample's own generator as ``rng`` and the kinds of the data's labels by name as ``labels``. A subclass
    passes its own ``metainfo`` first.

    Args:
        data_root: Folder of the data.
        pipeline: Transforms.
        metainfo: Replaces entries of ``metainfo``.
        indices: Keep the first (or, negative, last) so many samples, or those at the given positions.
        test_mode: As in mmengine: never replace a sample by another one.
        lazy_init: List the samples on first use instead of now.
    """

    labels: Mapping[str, LabelKind] = MappingProxyType({})

    def __init__(
        self,
        defaults: Mapping,
        /,
        data_root: str | Path = '',
        pipeline: Sequence[dict | Callable] = (),
        metainfo: Mapping | None = None,
        indices: int | Sequence[int] | None = None,
        test_mode: bool = False,
        lazy_init: bool = False,
    ):
        super().__init__(
            data_root=str(data_root),
            data_prefix={},
            pipeline=[build_transform(step) for step in pipeline],
            metainfo={**defaults, **(metainfo or {})},
            indices=indices,
            test_mode=test_mode,
            lazy_init=lazy_init,
        )

    def prepare_data(self, idx: int | SampleKey) -> Any:
        # Samples run in parallel already: OpenCV's own threads would only get in the way. The setting does not survive the
        # start of a worker process on every platform, hence the place.
        if cv2.getNumThreads() > 1:
            cv2.setNumThreads(0)
        key = idx if isinstance(idx, SampleKey) else SampleKey(int(idx))
        results = self.get_data_info(key.index)
        if key.position is not None:
            results['sample_idx'] = key.position
        results['labels'] = self.labels
        results['rng'] = key._replace(index=results['sample_idx']).rng()
        self.load_sample(results)
        return self.pipeline(results)

    def load_sample(self, results: dict) -> None:
        """Add entries to ``results`` before the pipeline; by default none."""


class LabelledDataset(KeyedDataset):
    """Images with label maps; the kinds of label come from the class or the config.

    ``metainfo`` holds ``labels``, the configs of the labels, and ``classes`` and ``palette`` of the first class map.
    The data info of each sample holds its ``stem``, and either ``img_path`` and ``label_paths`` (files by label; a label that
    the sample lacks is absent) or whatever :meth:`load_sample` needs to add ``img`` and the stored maps itself. A subclass passes
    the configs of the labels that there are first.

    Args:
        data_root: Folder of the data.
        tasks: Which labels to read; by default ``default_tasks``, or all.
        **kwargs: Of :class:`KeyedDataset`.

    Raises:
        ConfigError: If a label's config is wrong.
        ArgumentError: If ``tasks`` is no sequence of different names of labels.
    """

    split = ''
    default_tasks: Sequence[str] | None = None

    def __init__(
        self, offered: Mapping[str, Mapping], /, data_root: str | Path, tasks: Sequence[str] | None = None, **kwargs: Any
    ):
        if tasks is None:
            tasks = [name for name in self.default_tasks or offered if name in offered]
        if isinstance(tasks, str) or len(set(tasks)) != len(tasks) or not set(tasks) <= set(offered):
            raise ArgumentError(f'`tasks` should be a sequence of different names out of {tuple(offered)}. Found {tasks!r}.')
        configs = {name: dict(offered[name]) for name in tasks}
        self.labels = build_labels(configs)
        super().__init__(dict(labels=configs, **class_names(self.labels)), data_root, **kwargs)

    def check_used(self, label: str, argument: str, is_given: bool) -> None:
        """Refuse an argument about a label that is not read."""
        if is_given and label not in self.labels:
            raise ArgumentError(f'`{argument}` should be left out where {label} is not read. Found `tasks` {tuple(self.labels)}.')

    @classmethod
    def offered_labels(cls, config: Mapping[str, Any]) -> Mapping[str, Mapping]:
        """Configs of all labels that a data set with these arguments could read, by name, without looking at its samples."""
        return config.get('labels') or {}

    @property
    def stems(self) -> list[str]:
        """Names of the samples within the split, in order: stable and unique, with ``/`` for files in subfolders."""
        return [self.get_data_info(position)['stem'] for position in range(len(self))]

    def read_sample(self, position: int) -> Sample:
        """One sample without the pipeline: ``img`` ``(H, W, 3)`` uint8 RGB and the stored map of each label by its kind's key.

        A label that the sample lacks is absent. Arrays may be read-only.
        """
        results = self.get_data_info(position)
        self.load_sample(results)
        if 'img' not in results:
            return decode_sample(results['img_path'], results['label_paths'], self.labels)
        keys = ('img', *(kind.key for kind in self.labels.values()))
        return {key: results[key] for key in keys if key in results}

    def read_labels(self, position: int) -> dict[str, np.ndarray]:
        """The stored maps of the labels of one sample by name, as :meth:`read_sample` reads them; files of images stay closed."""
        results = self.get_data_info(position)
        self.load_sample(results)
        if 'img' not in results:
            return {name: decode_map(self.labels[name], paths) for name, paths in results['label_paths'].items()}
        return {name: results[kind.key] for name, kind in self.labels.items() if kind.key in results}


def class_names(labels: Mapping) -> dict:
    """``classes`` and ``palette`` of the first class map, ``{}`` without one."""
    for kind in labels.values():
        if kind.is_class_map:
            return dict(classes=kind.classes, palette=kind.palette)
    return {}


def fingerprint(dataset: Any) -> str | None:
    """Twelve hexadecimal digits of the names and sizes of a data set's files, in order; None if it does not name them.

    The same for a copy of the data in another place: neither the folder nor the time of a file counts, nor are files read.
    Samples name ``img_path``, ``label_paths`` or ``seg_map_path``, or at least a ``stem``.
    """
    if not hasattr(dataset, 'get_data_info'):
        return None
    root = str(getattr(dataset, 'data_root', None) or '')
    digest = hashlib.sha256()
    for position in range(len(dataset)):
        info = dataset.get_data_info(position)
        labels = info.get('label_paths') or {}
        paths = [info.get('img_path'), info.get('seg_map_path'), *(path for files in labels.values() for path in files)]
        named = [f'{str(path).removeprefix(root)} {_size(path)}' for path in paths if path]
        if not named and 'stem' not in info:
            return None
        digest.update('\n'.join([str(info.get('stem', '')), *named, '']).encode())
    return digest.hexdigest()[:12]


def _size(path: str) -> int | None:
    try:
        return os.stat(path).st_size
    except OSError:
        return None


class _Whole:
    """Interface of a data set that tools need, for one that holds others."""

    def parts(self) -> list:
        """The data sets within."""
        return list(self.datasets) if hasattr(self, 'datasets') else [self.dataset]

    @property
    def data_root(self) -> str:
        return ', '.join(dict.fromkeys(str(part.data_root) for part in self.parts()))

    @property
    def split(self) -> str:
        return ', '.join(dict.fromkeys(str(part.split) for part in self.parts()))


@DATASETS.register_module()
class ConcatDataset(_Whole, MMEngineConcatDataset):
    """mmengine's data set of this name for data with the same labels: samples have numbers and generators by their position."""

    def __getitem__(self, idx: int | SampleKey) -> Any:
        key = _outermost(idx, len(self))
        number, index = self._get_ori_dataset_idx(key.index)
        return self.datasets[number][key._replace(index=index)]


@DATASETS.register_module()
class RepeatDataset(_Whole, MMEngineRepeatDataset):
    """mmengine's data set of this name: each repetition of a sample draws its own augmentation."""

    def __getitem__(self, idx: int | SampleKey) -> Any:
        key = _outermost(idx, len(self))
        return self.dataset[key._replace(index=self._get_ori_dataset_idx(key.index))]


def _outermost(idx: int | SampleKey, length: int) -> SampleKey:
    key = idx if isinstance(idx, SampleKey) else SampleKey(int(idx))
    index = key.index + length if key.index < 0 else key.index
    return key._replace(index=index, position=index if key.position is None else key.position)
