"""Street scenes with the classes of Cityscapes: Cityscapes in the layout of its official archives, and Synscapes."""

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from mtl_plugins.datasets.multitask.miniscapes import MultiTaskDataset
from mtl_plugins.datasets.multitask.split_listing import SplitListing, list_split
from mtl_plugins.errors import ArgumentError
from mtl_plugins.labels.cityscapes_classes import CATEGORIES, CATEGORY_OF, CATEGORY_PALETTE, CLASSES, LABEL_IDS, PALETTE
from mtl_plugins.registry import DATASETS

# Disparities of the files end at 126 pixels, 3.8 m; beyond 300 m they are below 1.6 pixels.
DEPTH_RANGE = (3.5, 300.0)
# First and last index of Synscapes.
SPLITS = dict(train=(1, 20_000), val=(20_001, 22_500), test=(22_501, 25_000))


class _CityscapesClasses(MultiTaskDataset):
    """Data with the label ids of Cityscapes, read as its classes or categories, and with depth."""

    class_path: str
    depth: Mapping[str, Any]

    def __init__(self, data_root: str | Path, split: str = 'train', num_classes: int = 19, **kwargs: Any):
        kwargs['labels'] = self.offered_labels(dict(kwargs, num_classes=num_classes))
        super().__init__(data_root, split, **kwargs)
        self.check_used('semseg', 'num_classes', num_classes != 19)

    @classmethod
    def offered_labels(cls, config: Mapping[str, Any]) -> Mapping[str, Mapping]:
        if config.get('labels'):
            return config['labels']
        num_classes = config.get('num_classes', 19)
        if num_classes not in (len(CLASSES), len(CATEGORIES)):
            raise ArgumentError(f'`num_classes` should be 19 (classes) or 7 (categories). Found {num_classes!r}.')
        fine = num_classes == len(CLASSES)
        classes, colours = (CLASSES, PALETTE) if fine else (CATEGORIES, CATEGORY_PALETTE)
        mapping = dict(zip(LABEL_IDS, range(num_classes) if fine else CATEGORY_OF, strict=True))
        palette = [list(colour) for colour in colours]
        semseg = dict(type='ClassMap', classes=classes, palette=palette, path=cls.class_path, mapping=mapping)
        return dict(semseg=semseg, depth=dict(type='DepthMap', **cls.depth, within_range=True))


@DATASETS.register_module()
class CityscapesDataset(_CityscapesClasses):
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
        **kwargs: As :class:`MultiTaskDataset`, whose errors it raises.
    """

    default_image = 'leftImg8bit/{split}/{stem}_leftImg8bit.png'
    default_stem = '[^/]+/[^/]+'
    class_path = 'gtFine/{split}/{stem}_gtFine_labelIds.png'
    depth = MappingProxyType(
        dict(
            encoding='disparity',
            path='disparity/{split}/{stem}_disparity.png',
            camera='camera/{split}/{stem}_camera.json',
            depth_range=DEPTH_RANGE,
        )
    )


@DATASETS.register_module()
class SynscapesDataset(_CityscapesClasses):
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
        **kwargs: As :class:`MultiTaskDataset`, whose errors it raises.
    """

    default_image = 'img/rgb/{stem}.png'
    class_path = 'img/class/{stem}.png'
    depth = MappingProxyType(dict(encoding='metres', path='img/depth/{stem}.exr'))

    def __init__(self, data_root: str | Path, split: str = 'train', **kwargs: Any):
        if kwargs.get('split_file') is None and split not in SPLITS:
            raise ArgumentError(f'`split` should be one of {list(SPLITS)}, or have a `split_file`. Found {split!r}.')
        super().__init__(data_root, split, **kwargs)

    def list_files(self) -> SplitListing:
        first, last = SPLITS.get(self.split, (0, 0))
        return list_split(self.data_root, self.split, self.labels, keep=lambda stem: first <= int(stem) <= last, **self.layout)
