"""Cityscapes as the arrays that papers on multi-task learning share."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mtl_plugins.datasets.cityscapes.cityscapes import class_label
from mtl_plugins.datasets.multitask.multitask_dataset import MultiTaskDataset
from mtl_plugins.registry import DATASETS


@DATASETS.register_module()
class CityscapesArraysDataset(MultiTaskDataset):
    """Cityscapes at 128x256 or 256x512 in ``.npy`` files, as MTAN (arXiv 1803.10704) prepared it and LibMTL reads it.

    Files: ``{split}/image/<index>.npy`` ``(H, W, 3)`` on 0..1 and ``{split}/label_7/<index>.npy`` or ``label_19``, ``(H, W)``
    with negative numbers ignored; classes are taken to be numbered as in :class:`CityscapesDataset`. The one label is ``semseg``.

    ``{split}/depth`` is not read: it holds, in its author's words, Cityscapes' disparity as "inverse depth" without a stated
    scale, interpolated to the smaller size, and the cameras are not among the files, so that there is no way to metres. Depth of
    Cityscapes is read from the official archives.

    Args:
        data_root: Folder that holds the splits.
        split: ``'train'`` or ``'val'``.
        num_classes: 7 or 19.
        label_folder: Name of the folder of the labels, by default ``label_<num_classes>``; ``'label'`` in some copies.
        tasks: ``('semseg',)``.
        **kwargs: As :class:`MultiTaskDataset`.

    Raises:
        ValueError: If ``num_classes`` is neither, or as :class:`MultiTaskDataset` does.
        DataNotFoundError: If the root, the split, its images or a label file is missing.
        CorruptFileError: From ``dataset[key]``, if a file cannot be used.
    """

    default_image = '{split}/image/{stem}.npy'

    def __init__(
        self, data_root: str | Path, split: str = 'train', num_classes: int = 7, label_folder: str | None = None, **kwargs: Any
    ):
        kwargs['labels'] = self.offered_labels(dict(kwargs, num_classes=num_classes, label_folder=label_folder))
        super().__init__(data_root, split, **kwargs)

    @classmethod
    def offered_labels(cls, config: Mapping[str, Any]) -> Mapping[str, Mapping]:
        if config.get('labels'):
            return config['labels']
        num_classes = config.get('num_classes', 7)
        folder = config.get('label_folder') or f'label_{num_classes}'
        return dict(semseg=class_label(num_classes, f'{{split}}/{folder}/{{stem}}.npy', ids=None))
