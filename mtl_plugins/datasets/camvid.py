"""CamVid: street scenes of a car in Cambridge, with the eleven classes of SegNet."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mtl_plugins.datasets.multitask.miniscapes import MultiTaskDataset
from mtl_plugins.datasets.multitask.split_listing import SplitListing, list_split
from mtl_plugins.labels.presets import DESCRIPTION, miniscapes_labels
from mtl_plugins.registry import DATASETS

# In the order of SegNet, each with its colours in `label_colors.txt`; the first is that of the class of this name.
COLOURS = {
    'sky': [[128, 128, 128]],
    # Building; bridge, wall, tunnel, archway.
    'building': [[128, 0, 0], [0, 128, 64], [64, 192, 0], [64, 0, 64], [192, 0, 128]],
    # Column or pole; traffic cone.
    'pole': [[192, 192, 128], [0, 0, 64]],
    # Road; lane markings, and other markings.
    'road': [[128, 64, 128], [128, 0, 192], [192, 0, 64]],
    # Sidewalk; parking block, road shoulder.
    'pavement': [[0, 0, 192], [64, 192, 128], [128, 128, 192]],
    # Tree; other vegetation.
    'tree': [[128, 128, 0], [192, 192, 0]],
    # Sign; text, traffic light.
    'sign symbol': [[192, 128, 128], [128, 128, 64], [0, 64, 64]],
    'fence': [[64, 64, 128]],
    # Car; SUV or pickup truck, truck or bus, train, other that moves.
    'car': [[64, 0, 128], [64, 128, 192], [192, 128, 192], [192, 64, 128], [128, 64, 64]],
    # Pedestrian; child, cart or pram, animal.
    'pedestrian': [[64, 64, 0], [192, 128, 64], [64, 0, 192], [64, 128, 64]],
    # Bicyclist; motorcycle or scooter.
    'bicyclist': [[0, 128, 192], [192, 0, 192]],
}
CLASSES = tuple(COLOURS)
VOID = 11
ORIGINAL_IMAGES, ORIGINAL_LABELS = '701_StillsRaw_full', 'LabeledApproved_full'


def split_of(stem: str) -> str:
    """The split of SegNet (367, 101 and 233 frames) that a frame belongs to, by its sequence and number."""
    sequence, _, number = stem.partition('_')
    frame = int(re.sub(r'\D', '', number) or 0)
    if sequence == 'Seq05VD' or (sequence == '0001TP' and frame >= 8550):
        return 'test'
    return 'val' if sequence == '0016E5' and 7959 <= frame <= 8159 else 'train'


@DATASETS.register_module()
class CamVidDataset(MultiTaskDataset):
    """CamVid (Brostow et al. 2009) with the 11 classes and the split of SegNet (arXiv 1511.00561).

    Which form it is follows from the folders below ``data_root``:

    * ``{split}/rgb/<name>.jpg`` and ``{split}/semseg/<name>.png``: classes from 0, 11 and 255 ignored; also as
      ``mtl data convert`` writes it.
    * ``{split}/<name>.png`` and ``{split}annot/<name>.png``: the same as SegNet's authors offer it, 360x480.
    * ``701_StillsRaw_full/<name>.png`` and ``LabeledApproved_full/<name>_L.png``: the original, 720x960, with 32 classes in
      colours, grouped to the 11 (``COLOURS``). Void, and the mixed colours at edges of ``Seq05VD_f02610_L.png``, are ignored.

    Args:
        data_root: Folder as above.
        split: ``'train'``, ``'val'`` or ``'test'``.
        **kwargs: As :class:`MultiTaskDataset`, whose errors it raises.
    """

    default_stem = '[^/]+'

    def __init__(self, data_root: str | Path, split: str = 'train', **kwargs: Any):
        config = dict(kwargs, data_root=data_root, split=split)
        self.is_original = Path(data_root, ORIGINAL_LABELS).is_dir()
        kwargs['image'] = kwargs.get('image') or self._find_layout(config)[0]
        super().__init__(data_root, split, labels=self.offered_labels(config), **kwargs)

    @classmethod
    def offered_labels(cls, config: Mapping[str, Any]) -> Mapping[str, Mapping]:
        return config.get('labels') or cls._find_layout(config)[1]

    @staticmethod
    def _find_layout(config: Mapping[str, Any]) -> tuple[str, Mapping[str, Mapping]]:
        """The template of the images and the label of the form that the folders have."""
        root, split = Path(config.get('data_root') or ''), config.get('split', 'train')
        if (root / DESCRIPTION).exists():
            return '{split}/rgb/{stem}.jpg', miniscapes_labels(root)
        semseg = dict(type='ClassMap', classes=CLASSES, palette=[several[0] for several in COLOURS.values()])
        if (root / ORIGINAL_LABELS).is_dir():
            path = f'{ORIGINAL_LABELS}/{{stem}}_L.png'
            semseg |= dict(path=path, colours=list(COLOURS.values()), ignore='others')
            return f'{ORIGINAL_IMAGES}/{{stem}}.png', dict(semseg=semseg)
        annotated = (root / f'{split}annot').is_dir()
        semseg |= dict(path='{split}annot/{stem}.png' if annotated else '{split}/semseg/{stem}.png', ignore=[VOID])
        return '{split}/{stem}.png' if annotated else '{split}/rgb/{stem}.jpg', dict(semseg=semseg)

    def list_files(self) -> SplitListing:
        keep = (lambda stem: split_of(stem) == self.split) if self.is_original else None
        return list_split(self.data_root, self.split, self.labels, keep=keep, **self.layout)
