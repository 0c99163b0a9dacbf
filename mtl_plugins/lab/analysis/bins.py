"""What the picture of bins shows: images, from files or of a data root with their labels."""

from collections.abc import Sequence

import numpy as np

from mtl_plugins.datasets.multitask.miniscapes import MiniScapesDataset
from mtl_plugins.errors import DataError
from mtl_plugins.labels.decoding import decode_photograph, read_bytes


def read_images(paths: Sequence[str]) -> list[dict[str, np.ndarray]]:
    """``image`` ``(H, W, 3)`` uint8 RGB of each file, of any format that inference reads.

    Raises:
        DataNotFoundError: If a file does not exist.
        CorruptFileError: If it is no image.
    """
    return [dict(image=decode_photograph(read_bytes(path), path)) for path in paths]


def read_samples(data_root: str, split: str, indices: Sequence[int], label: str) -> list[dict[str, np.ndarray]]:
    """``image`` and, where labelled, ``label`` ``(H, W)``, the values of that label, of samples in MiniScapes format.

    Raises:
        DataError: If data are missing or broken, or the split has no such sample.
    """
    dataset = MiniScapesDataset(data_root, split, tasks=(label,), test_mode=True)
    rows = []
    for index in indices:
        if not 0 <= index < len(dataset):
            raise DataError(f'`--indices` should lie in 0..{len(dataset) - 1}, the samples of {split}. Found {index}.')
        sample, kind = dataset.read_sample(index), dataset.labels[label]
        labelled = dict(label=kind.to_values(sample[kind.key])) if kind.key in sample else {}
        rows.append(dict(image=sample['img'], **labelled))
    return rows
