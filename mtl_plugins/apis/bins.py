"""What the picture of bins shows: images, from files or of a data root with their labels."""

from collections.abc import Sequence

import numpy as np
from PIL import Image, UnidentifiedImageError

from mtl_plugins.datasets.multitask.miniscapes import MiniScapesDataset
from mtl_plugins.errors import CorruptFileError, DataError, DataNotFoundError
from mtl_plugins.labels.decoding import decode_image


def read_images(paths: Sequence[str]) -> list[dict[str, np.ndarray]]:
    """``image`` ``(H, W, 3)`` uint8 RGB of each file, of any format that PIL reads.

    Raises:
        DataNotFoundError: If a file does not exist.
        CorruptFileError: If it is no image.
    """
    rows = []
    for path in paths:
        try:
            with Image.open(path) as image:
                rows.append(dict(image=np.array(image.convert('RGB'))))
        except FileNotFoundError as error:
            raise DataNotFoundError(f"The image '{path}' does not exist.") from error
        except (UnidentifiedImageError, OSError) as error:
            raise CorruptFileError(f"The image '{path}' cannot be read ({error}).") from error
    return rows


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
        info = dataset.get_data_info(index)
        row = dict(image=decode_image(info['img_path']))
        if label in info['label_paths']:
            kind = dataset.labels[label]
            row['label'] = kind.to_values(kind.decode(*info['label_paths'][label]))
        rows.append(row)
    return rows
