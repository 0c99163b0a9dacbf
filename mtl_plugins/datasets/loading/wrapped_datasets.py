"""Data sets of data sets, asked by a `SampleKey`."""

from typing import Any

from mmengine.dataset import ConcatDataset as MMEngineConcatDataset
from mmengine.dataset import RepeatDataset as MMEngineRepeatDataset

from mtl_plugins.datasets.loading.labelled_dataset import SampleKey
from mtl_plugins.registry import DATASETS


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
    """mmengine's data set of this name, whose samples have numbers and generators by their position in the whole.

    Args:
        datasets: Data sets or their configs. Their labels are the same.
        lazy_init: List the samples on first use instead of now.
        ignore_keys: Of ``metainfo``, those that may differ.
    """

    def __getitem__(self, idx: int | SampleKey) -> Any:
        key = _outermost(idx, len(self))
        number, index = self._get_ori_dataset_idx(key.index)
        return self.datasets[number][key._replace(index=index)]


@DATASETS.register_module()
class RepeatDataset(_Whole, MMEngineRepeatDataset):
    """mmengine's data set of this name: each repetition of a sample draws its own augmentation.

    Args:
        dataset: A data set or its config.
        times: How often an epoch passes over it.
        lazy_init: List the samples on first use instead of now.
    """

    def __getitem__(self, idx: int | SampleKey) -> Any:
        key = _outermost(idx, len(self))
        return self.dataset[key._replace(index=self._get_ori_dataset_idx(key.index))]


def _outermost(idx: int | SampleKey, length: int) -> SampleKey:
    key = idx if isinstance(idx, SampleKey) else SampleKey(int(idx))
    index = key.index + length if key.index < 0 else key.index
    return key._replace(index=index, position=index if key.position is None else key.position)
