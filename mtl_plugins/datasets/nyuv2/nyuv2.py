"""NYU Depth V2 as the arrays that papers on multi-task learning share."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mtl_plugins.datasets.multitask.multitask_dataset import MultiTaskDataset
from mtl_plugins.registry import DATASETS

# In the order of Gupta et al. (CVPR 2013, `classMapping40.mat`), whose numbers start at 1.
# fmt: off
CLASSES_40 = (
    'wall', 'floor', 'cabinet', 'bed', 'chair', 'sofa', 'table', 'door', 'window', 'bookshelf', 'picture', 'counter', 'blinds',
    'desk', 'shelves', 'curtain', 'dresser', 'pillow', 'mirror', 'floor mat', 'clothes', 'ceiling', 'books', 'refrigerator',
    'television', 'paper', 'towel', 'shower curtain', 'box', 'whiteboard', 'person', 'night stand', 'toilet', 'sink', 'lamp',
    'bathtub', 'bag', 'other structure', 'other furniture', 'other prop',
)

# In the order of Couprie et al. (arXiv 1301.3572, `class13Mapping.mat`), whose numbers start at 1.
CLASSES_13 = (
    'bed', 'books', 'ceiling', 'chair', 'floor', 'furniture', 'objects', 'picture', 'sofa', 'table', 'tv', 'wall', 'window',
)

# `class13Mapping.mat`, from 0: the class of 13 of each of the 40.
CLASS_13_OF_40 = (
    11, 4, 5, 0, 3, 8, 9, 11, 12, 5, 7, 5, 12, 9, 5, 12, 5, 6, 6, 4, 6, 2, 1, 5, 10, 6, 6, 6, 6, 6, 6, 5, 6, 6, 6, 6, 6, 6, 5, 6,
)
# fmt: on

DEPTH_RANGE = (0.5, 10.0)
NORMAL_AXES = ('x', '-y', 'z')


@DATASETS.register_module()
class NYUv2Dataset(MultiTaskDataset):
    """Indoor scenes with 13 classes, depth and normals, 288x384, as MTAN (arXiv 1803.10704) prepared and LibMTL reads them.

    Files: ``{split}/image/<index>.npy`` ``(H, W, 3)`` on 0..1, ``label`` ``(H, W)`` with -1 ignored, ``depth`` ``(H, W, 1)`` in
    metres, ``normal`` ``(H, W, 3)``, zero where unknown. The order of the classes is that of ``class13Mapping.mat``.

    The normals come from Eigen and Fergus (arXiv 1411.4734). That their first channel is horizontal follows from MTAN's and
    LibMTL's mirroring; that they point right, down and towards the camera is what 2D-3D-S (arXiv 1702.01105), which took over the
    colours of NYU, writes of them. It has not been verified on the files: with right ``normal_axes`` floors are drawn green and
    ceilings are not, walls to the right of the camera are not red and those to its left are, and what faces it is blue. A wrong
    sign harms no score without tilted views.

    Args:
        data_root: Folder that holds the splits.
        split: ``'train'`` or ``'val'``.
        tasks: Of ``'semseg'``, ``'depth'`` and ``'normals'``.
        normal_axes: ``axes`` of :class:`~mtl_plugins.labels.surface_normals.SurfaceNormals`.
        **kwargs: As :class:`MultiTaskDataset`.

    Raises:
        ConfigError: If ``normal_axes`` are wrong.
        ValueError: As :class:`MultiTaskDataset` does.
        DataNotFoundError: If the root, the split, its images or a label file is missing.
        CorruptFileError: From ``dataset[key]``, if a file cannot be used.
    """

    default_image = '{split}/image/{stem}.npy'

    def __init__(self, data_root: str | Path, split: str = 'train', normal_axes: Sequence[str] = NORMAL_AXES, **kwargs: Any):
        kwargs['labels'] = self.offered_labels(dict(kwargs, normal_axes=normal_axes))
        super().__init__(data_root, split, **kwargs)
        self.check_used('normals', 'normal_axes', tuple(normal_axes) != NORMAL_AXES)

    @classmethod
    def offered_labels(cls, config: Mapping[str, Any]) -> Mapping[str, Mapping]:
        axes = tuple(config.get('normal_axes', NORMAL_AXES))
        return config.get('labels') or dict(
            semseg=dict(type='ClassMap', classes=CLASSES_13, path='{split}/label/{stem}.npy'),
            depth=dict(type='DepthMap', encoding='metres', path='{split}/depth/{stem}.npy', depth_range=DEPTH_RANGE),
            normals=dict(type='SurfaceNormals', path='{split}/normal/{stem}.npy', axes=axes),
        )
