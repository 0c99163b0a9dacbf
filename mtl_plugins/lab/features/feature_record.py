"""Features of one validation on disk: an ``.npz`` of plain arrays."""

import zipfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import numpy as np

from mtl_plugins.errors import CorruptFileError, DataNotFoundError
from mtl_plugins.utils.files import replacing

# Of the files in a work dir.
FOLDER = 'features'


@dataclass(frozen=True)
class FeatureRecord:
    """What a network made of some images at some time of its training.

    Attributes:
        features: ``(N, C)`` float32.
        labels: ``(N,)`` int64, -1 where unknown.
        indices: Positions in the data set, ``(N,)``.
        classes: Names in the order of the labels.
        name: Of the moment, such as ``'epoch 3'``.
        iteration: Iterations done.
        accuracy: k-NN accuracy in per cent; NaN if unknown.
        embedding: ``(N, 2)``; empty if there is none.
    """

    features: np.ndarray
    labels: np.ndarray
    indices: np.ndarray
    classes: Sequence[str]
    name: str
    iteration: int
    accuracy: float
    embedding: np.ndarray

    @property
    def stem(self) -> str:
        """Of file names: ``'epoch_003'``."""
        return '_'.join(f'{int(word):03d}' if word.isdigit() else word for word in self.name.split())

    def save(self, path: str | Path) -> None:
        """Raises:
        UserError: If the operating system refuses.
        """
        with replacing(path) as temporary, open(temporary, 'wb') as file:
            np.savez(file, **asdict(self))

    def shows_same_images(self, other: 'FeatureRecord') -> bool:
        return np.array_equal(self.indices, other.indices) and np.array_equal(self.labels, other.labels)


def read_record(path: str | Path) -> FeatureRecord:
    """Raises:
    CorruptFileError: If the file is not what :meth:`FeatureRecord.save` writes.
    """
    try:
        with np.load(path) as file:
            arrays = {field.name: file[field.name] for field in fields(FeatureRecord)}
    except (OSError, ValueError, KeyError, zipfile.BadZipFile, EOFError) as error:
        raise CorruptFileError(
            f'{path} should hold features as FeatureHook writes them. Found something else ({error}).'
        ) from error
    return FeatureRecord(
        **{
            **arrays,
            'classes': tuple(arrays['classes'].tolist()),
            'name': str(arrays['name']),
            'iteration': int(arrays['iteration']),
            'accuracy': float(arrays['accuracy']),
        }
    )


def read_records(folder: str | Path) -> list[FeatureRecord]:
    """All records of a folder, the oldest state of the network first.

    Raises:
        DataNotFoundError: If there is none.
        CorruptFileError: If a file cannot be read.
    """
    records = [read_record(path) for path in Path(folder).glob('*.npz')]
    if not records:
        raise DataNotFoundError(f'{folder} holds no features (*.npz). FeatureHook writes them into <work dir>/features.')
    return sorted(records, key=lambda record: record.iteration)
