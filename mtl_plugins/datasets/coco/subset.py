"""COCO for semantic segmentation: the objects of some categories against everything else."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from mtl_plugins.datasets.coco.annotations import CLASSES, check_classes, read_instances
from mtl_plugins.datasets.loading.keyed_dataset import KeyedDataset
from mtl_plugins.registry import DATASETS


def make_palette(num_classes: int) -> list[list[int]]:
    """RGB colours that differ: class 0 black, the bits of the others spread over the channels, as PASCAL VOC does."""
    bits = [[number >> bit & 1 for bit in range(8)] for number in range(num_classes)]
    return [[sum(row[k + channel] << (7 - k // 3) for k in range(0, 8 - channel, 3)) for channel in range(3)] for row in bits]


@DATASETS.register_module()
class COCOSubsetDataset(KeyedDataset):
    """The images of a COCO split that hold at least one object of the classes.

    Files: ``<data_root>/annotations/instances_<split>.json`` in COCO's format for object instances, and the images
    ``<data_root>/<split>/<file_name>``. ``metainfo['classes']`` is ``('background', *classes)``.

    ``dataset[key]`` takes an int or a `SampleKey` and runs the pipeline, which starts with `LoadCOCOSubset`, on ``img_path``,
    ``img_size`` (height, width), ``objects``, ``sample_idx`` and ``rng``. The annotations are read once and kept compact;
    pixels are made of them per sample.

    Args:
        data_root: Folder that holds ``annotations`` and the splits.
        split: ``'train'``, ``'val'``, ``'train2017'`` and so on.
        classes: Categories by name; class ``k + 1`` is the ``k``-th.
        pipeline: Transforms.
        metainfo: Replaces entries of ``metainfo``.
        indices: Keep the first (or, negative, last) so many samples, or those at the given positions.
        test_mode: As in mmengine: never replace a sample by another one.
        lazy_init: Read the annotations on first use instead of now.

    Raises:
        ValueError: If ``classes`` names an unknown category.
        DataNotFoundError: If the annotations or an image are missing, or no image is left.
        CorruptFileError: If the annotations are damaged; from ``dataset[key]``, if a file cannot be used.
    """

    def __init__(
        self,
        data_root: str | Path,
        split: str = 'train',
        classes: Sequence[str] = CLASSES,
        pipeline: Sequence[dict | Callable] = (),
        metainfo: Mapping | None = None,
        indices: int | Sequence[int] | None = None,
        test_mode: bool = False,
        lazy_init: bool = False,
    ):
        self.split = split
        self.classes = check_classes(classes)
        defaults = dict(classes=('background', *self.classes), palette=make_palette(len(self.classes) + 1))
        super().__init__(data_root, pipeline, {**defaults, **(metainfo or {})}, indices, test_mode, lazy_init)

    def load_data_list(self) -> list[dict]:
        images = read_instances(self.data_root, self.split, self.classes)
        return [dict(img_path=image.path, img_size=image.size, objects=image.objects) for image in images]
