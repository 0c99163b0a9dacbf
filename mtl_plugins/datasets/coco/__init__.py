"""COCO: instance annotations as label maps and object crops."""

from mtl_plugins.datasets.coco.object_crops import ObjectCropDataset
from mtl_plugins.datasets.coco.subset import COCOSubsetDataset

__all__ = ['COCOSubsetDataset', 'ObjectCropDataset']
