"""Transforms of a sample. Importing this package registers them."""

from mtl_plugins.datasets.transforms.formatting import PackMultiTaskInputs
from mtl_plugins.datasets.transforms.geometric import RandomHomography
from mtl_plugins.datasets.transforms.loading import LoadMiniScapes

__all__ = ['LoadMiniScapes', 'PackMultiTaskInputs', 'RandomHomography']
