"""Transforms of a sample. Importing this package registers them."""

from mtl_plugins.datasets.transforms.formatting import PackMultiTaskInputs, PackViews
from mtl_plugins.datasets.transforms.geometric import RandomHomography
from mtl_plugins.datasets.transforms.loading import LoadCOCOSubset, LoadLabelledImage, LoadMiniScapes
from mtl_plugins.datasets.transforms.multi_crop import MultiCrop
from mtl_plugins.datasets.transforms.resize import ResizeCrop, ResizeToCover

__all__ = [
    'LoadCOCOSubset',
    'LoadLabelledImage',
    'LoadMiniScapes',
    'MultiCrop',
    'PackMultiTaskInputs',
    'PackViews',
    'RandomHomography',
    'ResizeCrop',
    'ResizeToCover',
]
