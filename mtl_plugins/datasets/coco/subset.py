"""COCO for semantic segmentation: the objects of some categories against everything else."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mtl_plugins.datasets.coco.annotations import CLASSES, check_classes, rasterise, read_instances
from mtl_plugins.datasets.loading.labelled_dataset import KeyedDataset, class_names
from mtl_plugins.labels.presets import build_labels
from mtl_plugins.registry import DATASETS


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
        **kwargs: Of the parent: ``pipeline``, ``metainfo``, ``indices``, ``test_mode`` and ``lazy_init``.

    Raises:
        ArgumentError: If ``classes`` names an unknown category.
        DataError: If files are missing or damaged, or no image is left; from ``dataset[key]``, if a file cannot be used.
    """

    def __init__(self, data_root: str | Path, split: str = 'train', classes: Sequence[str] = CLASSES, **kwargs: Any):
        self.split = split
        self.classes = check_classes(classes)
        configs = self.offered_labels(dict(classes=classes))
        self.labels = build_labels(configs)
        super().__init__(dict(labels=configs, **class_names(self.labels)), data_root, **kwargs)

    @classmethod
    def offered_labels(cls, config: Mapping[str, Any]) -> dict[str, dict]:
        return dict(semseg=dict(type='ClassMap', classes=('background', *check_classes(config.get('classes', CLASSES)))))

    def load_data_list(self) -> list[dict]:
        images = read_instances(self.data_root, self.split, self.classes)
        return [dict(img_path=image.path, img_size=image.size, objects=image.objects) for image in images]

    def read_labels(self, position: int) -> dict[str, np.ndarray]:
        """The label map of one sample by its name; the file of the image stays closed."""
        info = self.get_data_info(position)
        return dict(semseg=rasterise(info['objects'], info['img_size'], info['img_path']))
