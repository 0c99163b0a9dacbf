"""Data sets in Parquet files, as the Hugging Face Hub holds them, unpacked to folders of pictures and arrays."""

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mtl_plugins.errors import CorruptFileError, DataNotFoundError
from mtl_plugins.labels.png_codec import SIGNATURE
from mtl_plugins.utils.cli import track
from mtl_plugins.utils.data_files import import_extra, refusing, shorten
from mtl_plugins.utils.files import natural_order, new_folder

_SUFFIXES = {SIGNATURE: '.png', b'\xff\xd8': '.jpg', b'II*\0': '.tif', b'MM\0*': '.tif', b'RIFF': '.webp'}
_BATCH = 8


def unpack_parquet(source: str | Path, out: str | Path, columns: Sequence[str] | None = None) -> dict[str, tuple[int, list[str]]]:
    """Write each cell to ``<out>/<split>/<column>/<row>``; return the number of rows and the columns of each split.

    Pictures keep their bytes and get the suffix of their kind. Arrays become ``.npy``; of arrays ``(3, H, W)`` or ``(1, H, W)``
    the first axis becomes the last. Empty cells have no file. The splits are named by the files, as
    ``train-00000-of-00008.parquet``, or by their folder, as ``train/0000.parquet``; rows are counted from 0 over the files of a
    split.

    Args:
        source: Folder with Parquet files, also in subfolders.
        out: Folder to make; new or empty. It appears when it is complete.
        columns: Which to write; by default all that hold pictures or arrays.

    Raises:
        ConfigError: If the package pyarrow is missing (``mtl_plugins[parquet]``).
        DataError: If there is no such file or column, a file is damaged, or ``out`` holds something.
    """
    parquet = import_extra('pyarrow.parquet', 'parquet', source)
    splits: dict[str, list[Path]] = {}
    for path in sorted(Path(source).rglob('*.parquet'), key=lambda path: natural_order(str(path))):
        match = re.fullmatch(r'([A-Za-z]\w*?)([-_.]\d.*)?', path.stem)
        splits.setdefault(match[1] if match else path.parent.name, []).append(path)
    if not splits:
        raise DataNotFoundError(f"'{source}' holds no Parquet file, such as data/train-00000-of-00001.parquet. Check the folder.")
    reports = {}
    with new_folder(Path(out)) as folder:
        for split, paths in splits.items():
            rows = sum(1 for _ in track(_unpack(parquet, paths, columns, folder / split), None, split))
            reports[split] = (rows, sorted(path.name for path in folder.glob(f'{split}/*')))
    return reports


def _unpack(parquet: Any, paths: Sequence[Path], columns: Sequence[str] | None, folder: Path) -> Iterator[int]:
    """Write the rows of a split and yield their numbers."""
    row = 0
    for path in paths:
        with refusing(f"'{path}' cannot be read as a Parquet file"):
            file = parquet.ParquetFile(path)
            chosen = _choose(file.schema_arrow, columns, path)
            for batch in file.iter_batches(_BATCH, columns=chosen):
                for place in range(batch.num_rows):
                    for name in chosen:
                        _write_cell(batch.column(name), place, folder / name / str(row), path)
                    yield row
                    row += 1


def _choose(schema: Any, columns: Sequence[str] | None, path: Path) -> list[str]:
    """Return the columns to write: those that are given, or all that hold pictures or arrays of two dimensions or more."""
    kinds = {field.name: str(getattr(field.type, 'storage_type', field.type)) for field in schema}
    fitting = [name for name, kind in kinds.items() if 'bytes: binary' in kind or kind.count('list<') > 1]
    chosen = fitting if columns is None else list(columns)
    unknown = [name for name in chosen if name not in fitting or not re.fullmatch(r'\w+', name)]
    if unknown or not chosen:
        raise CorruptFileError(
            f"'{path}' has no {f'such column as {shorten(unknown[0])}' if unknown else 'column to unpack'}. Columns should hold "
            f"pictures or arrays and be named by letters, digits and '_'. It has {shorten(kinds, 200)}."
        )
    return chosen


def _write_cell(column: Any, place: int, target: Path, source: Path) -> None:
    cell = getattr(column, 'storage', column)[place]
    if not cell.is_valid:
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    if not isinstance(cell, Mapping):
        np.save(target.with_suffix('.npy'), _to_array(cell.values))
        return
    data = cell['bytes'].as_py() or b''
    suffix = next((suffix for start, suffix in _SUFFIXES.items() if data.startswith(start)), None)
    if suffix is None:
        raise CorruptFileError(f"'{source}' should hold PNG, JPEG, TIFF or WebP pictures. Found {data[:8]!r} in {target.name}.")
    target.with_suffix(suffix).write_bytes(data)


def _to_array(values: Any) -> np.ndarray:
    """Nested lists as an array; raise ValueError if they are ragged. Channels come last."""
    shape = [len(values)]
    while hasattr(values, 'flatten') and str(values.type).startswith(('list', 'large_list', 'fixed_size_list')):
        values = values.flatten()
        shape.append(len(values) // max(int(np.prod(shape)), 1))
    array = values.to_numpy(zero_copy_only=False).reshape(shape)
    return np.moveaxis(array, 0, -1) if array.ndim == 3 and array.shape[0] in (1, 3) else array
