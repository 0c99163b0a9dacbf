"""MiniScapes: street scenes with a class and a depth for every pixel."""

from collections.abc import Mapping
from typing import Any

from mtl_plugins.datasets.multitask.multitask_dataset import MultiTaskDataset
from mtl_plugins.datasets.multitask.split_listing import SplitListing, list_split
from mtl_plugins.labels.presets import MINISCAPES_TASKS, miniscapes_labels, miniscapes_missing_labels
from mtl_plugins.registry import DATASETS


@DATASETS.register_module()
class MiniScapesDataset(MultiTaskDataset):
    """Images with semantic labels (Cityscapes' 19 classes, 255 = ignore) and 8-bit disparity codes (0 = no depth known).

    Files: ``<data_root>/<split>/{rgb/<index>.jpg, semseg/<index>.png, depth/<index>.png}``; on request (``tasks``) also
    ``normals/<index>.png`` and ``boundary/<index>.png``. A file ``<data_root>/dataset.json``, as ``convert_dataset.py``
    writes it, may replace the labels (other classes, another range of depth) and say which of them samples may lack.

    Arguments and errors are those of :class:`MultiTaskDataset`; ``tasks`` are ``('semseg', 'depth')`` by default.
    """

    default_tasks = MINISCAPES_TASKS

    @classmethod
    def offered_labels(cls, config: Mapping[str, Any]) -> Mapping[str, Mapping]:
        return config.get('labels') or miniscapes_labels(config.get('data_root'))

    def list_files(self) -> SplitListing:
        missing = (*self.layout['missing_labels'], *miniscapes_missing_labels(self.data_root))
        return list_split(self.data_root, self.split, self.labels, **{**self.layout, 'missing_labels': missing})
