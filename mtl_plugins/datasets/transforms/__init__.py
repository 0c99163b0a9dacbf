"""Transforms of a sample. Importing this package registers them."""

from .formatting import PackMultiTaskInputs
from .geometric import RandomHomography
from .loading import LoadMiniScapes

__all__ = ['LoadMiniScapes', 'PackMultiTaskInputs', 'RandomHomography']
