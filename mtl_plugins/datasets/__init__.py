"""Datasets, transforms, samplers and loaders. Importing this package registers them."""

from . import transforms
from .collate import multitask_collate
from .errors import CorruptFileError, DataError, DataNotFoundError
from .miniscapes import MiniScapesDataset
from .sample_key import SampleKey
from .samplers import EpochSampler, IterationSampler
from .thread_loader import ThreadDataLoader

__all__ = [
    'CorruptFileError',
    'DataError',
    'DataNotFoundError',
    'EpochSampler',
    'IterationSampler',
    'MiniScapesDataset',
    'SampleKey',
    'ThreadDataLoader',
    'multitask_collate',
    'transforms',
]
