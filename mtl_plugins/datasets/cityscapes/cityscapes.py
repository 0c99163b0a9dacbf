"""Cityscapes in the layout of its official archives."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mtl_plugins.datasets.multitask.multitask_dataset import MultiTaskDataset
from mtl_plugins.errors import ArgumentError
from mtl_plugins.labels.cityscapes_classes import CATEGORIES, CATEGORY_OF, CATEGORY_PALETTE, CLASSES, LABEL_IDS, PALETTE
from mtl_plugins.registry import DATASETS

# Disparities of the files end at 126 pixels, 3.8 m; beyond 300 m they are below 1.6 pixels.
DEPTH_RANGE = (3.5, 300.0)


def class_label(num_classes: int, path: str, ids: Sequence[int] | None = LABEL_IDS) -> dict[str, Any]:
    """Config of the class map with 19 classes or 7 categories.

    ``ids`` are the ids in the files of the 19 classes, in train-id order; None: the files hold the classes themselves.
    """
    if num_classes not in (len(CLASSES), len(CATEGORIES)):
        raise ArgumentError(f'`num_classes` should be 19 (classes) or 7 (categories). Found {num_classes!r}.')
    fine = num_classes == len(CLASSES)
    classes, colours = (CLASSES, PALETTE) if fine else (CATEGORIES, CATEGORY_PALETTE)
    label = dict(type='ClassMap', classes=classes, palette=[list(colour) for colour in colours], path=path)
    if ids is not None:
        label['mapping'] = dict(zip(ids, range(num_classes) if fine else CATEGORY_OF, strict=True))
    return label


@DATASETS.register_module()
class CityscapesDataset(MultiTaskDataset):
    """Street scenes with classes and depth from stereo (arXiv 1604.01685), 1024x2048, as the official archives unpack.

    Files, ``{stem}`` being ``{city}/{city}_{sequence}_{frame}``:

    * ``leftImg8bit/{split}/{stem}_leftImg8bit.png``
    * ``gtFine/{split}/{stem}_gtFine_labelIds.png``; ids that the benchmark does not evaluate are ignored
    * ``disparity/{split}/{stem}_disparity.png`` and ``camera/{split}/{stem}_camera.json``, for depth in metres, see
      :class:`~mtl_plugins.labels.depth_map.DepthMap`. Unknown beyond 3.5 .. 300 m.

    Archives that are not there need not be: ``tasks=('semseg',)`` reads images and ``gtFine`` alone. The labels of the test split
    hold no evaluated class; without them it can be predicted as well.

    Args:
        data_root: Folder that holds ``leftImg8bit``.
        split: ``'train'``, ``'val'`` or ``'test'``.
        num_classes: 19, or 7 for the categories flat, construction, object, nature, sky, human and vehicle of the same pixels.
        tasks: Of ``'semseg'`` and ``'depth'``.
        **kwargs: As :class:`MultiTaskDataset`.

    Raises:
        ArgumentError: If ``num_classes`` is neither, or as :class:`MultiTaskDataset` does.
        DataNotFoundError: If the root, the split, its images or a label file is missing.
        CorruptFileError: From ``dataset[key]``, if a file cannot be used.
    """

    default_image = 'leftImg8bit/{split}/{stem}_leftImg8bit.png'
    default_stem = '[^/]+/[^/]+'

    def __init__(self, data_root: str | Path, split: str = 'train', num_classes: int = 19, **kwargs: Any):
        kwargs['labels'] = self.offered_labels(dict(kwargs, num_classes=num_classes))
        super().__init__(data_root, split, **kwargs)
        self.check_used('semseg', 'num_classes', num_classes != 19)

    @classmethod
    def offered_labels(cls, config: Mapping[str, Any]) -> Mapping[str, Mapping]:
        return config.get('labels') or dict(
            semseg=class_label(config.get('num_classes', 19), 'gtFine/{split}/{stem}_gtFine_labelIds.png'),
            depth=dict(
                type='DepthMap',
                encoding='disparity',
                path='disparity/{split}/{stem}_disparity.png',
                camera='camera/{split}/{stem}_camera.json',
                depth_range=DEPTH_RANGE,
                within_range=True,
            ),
        )
