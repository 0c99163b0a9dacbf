"""Data sets of images with label maps in files."""

from mtl_plugins.datasets.multitask.miniscapes import MiniScapesDataset

__all__ = ['MiniScapesDataset']
