"""Synscapes in its official layout."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mtl_plugins.datasets.cityscapes.cityscapes import class_label
from mtl_plugins.datasets.multitask.multitask_dataset import MultiTaskDataset
from mtl_plugins.datasets.multitask.split_listing import SplitListing, list_split
from mtl_plugins.errors import ArgumentError
from mtl_plugins.registry import DATASETS

# First and last index.
SPLITS = dict(train=(1, 20_000), val=(20_001, 22_500), test=(22_501, 25_000))


@DATASETS.register_module()
class SynscapesDataset(MultiTaskDataset):
    """25,000 rendered street scenes with classes and depth (arXiv 1810.08705), 720x1440.

    Files: ``img/rgb/<index>.png``, ``img/class/<index>.png`` with Cityscapes' label ids, and ``img/depth/<index>.exr``, planar
    depth in metres, unknown here beyond MiniScapes' 4 .. 300 m. The enlarged ``img/rgb-2k`` is not used: labels are of the native
    size.

    Synscapes has no official splits. Here 1..20000 are for training, 20001..22500 for validation and 22501..25000 for testing,
    the proportions of MiniScapes; which scenes that took into its own splits is not known. A ``split_file`` says otherwise.

    Args:
        data_root: Folder that holds ``img``.
        split: ``'train'``, ``'val'`` or ``'test'``; with ``split_file`` any name.
        num_classes: 19, or 7 categories, as in :class:`CityscapesDataset`.
        tasks: Of ``'semseg'`` and ``'depth'``. Depth needs the package OpenEXR (``mtl_plugins[exr]``).
        **kwargs: As :class:`MultiTaskDataset`.

    Raises:
        ArgumentError: If ``num_classes`` or ``split`` is unknown, or as :class:`MultiTaskDataset` does.
        DataNotFoundError: If the root, the split, its images or a label file is missing.
        ConfigError: From ``dataset[key]``, if the package OpenEXR is missing.
        CorruptFileError: From ``dataset[key]``, if a file cannot be used.
    """

    default_image = 'img/rgb/{stem}.png'

    def __init__(self, data_root: str | Path, split: str = 'train', num_classes: int = 19, **kwargs: Any):
        if kwargs.get('split_file') is None and split not in SPLITS:
            raise ArgumentError(f'`split` should be one of {list(SPLITS)}, or have a `split_file`. Found {split!r}.')
        kwargs['labels'] = self.offered_labels(dict(kwargs, num_classes=num_classes))
        super().__init__(data_root, split, **kwargs)
        self.check_used('semseg', 'num_classes', num_classes != 19)

    @classmethod
    def offered_labels(cls, config: Mapping[str, Any]) -> Mapping[str, Mapping]:
        return config.get('labels') or dict(
            semseg=class_label(config.get('num_classes', 19), 'img/class/{stem}.png'),
            depth=dict(type='DepthMap', encoding='metres', path='img/depth/{stem}.exr', within_range=True),
        )

    def list_files(self) -> SplitListing:
        first, last = SPLITS.get(self.split, (0, 0))
        return list_split(self.data_root, self.split, self.labels, keep=lambda stem: first <= int(stem) <= last, **self.layout)
