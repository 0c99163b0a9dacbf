"""Reading HDF5 files from threads and from forked processes."""

import math
import os
import threading
from pathlib import Path
from typing import Any

import numpy as np

from mtl_plugins.errors import ArgumentError, ConfigError, CorruptFileError, DataNotFoundError

# One for all files, held during a fork: no thread is inside the HDF5 library when a process is copied.
_lock = threading.Lock()
MOST_BYTES = 2**30
os.register_at_fork(before=_lock.acquire, after_in_parent=_lock.release, after_in_child=_lock.release)


class Hdf5File:
    """An HDF5 file, opened by each process for itself; threads read one after the other. A copy or a pickle holds the path.

    Args:
        path: The file.

    Raises:
        ConfigError: If the package h5py is missing.
        DataNotFoundError: If the file does not exist.
        CorruptFileError: If it is no HDF5 file.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        # The handles of a parent are kept untouched: closing one here would act on what the parent shares with this process.
        self._handles: dict[int, Any] = {}
        self.shapes = self._read_shapes()

    def read(self, name: str, position: int) -> np.ndarray:
        """The entry of a data set at a position along its first axis.

        Raises:
            CorruptFileError: If it cannot be read.
        """
        try:
            with _lock:
                item = self._handle()[name]
                # Chunks are packed: a small file may state any size.
                if item.dtype.kind not in 'buif' or math.prod(item.shape[1:]) * item.dtype.itemsize > MOST_BYTES:
                    raise ArgumentError(f'it should be numbers of at most {MOST_BYTES} bytes, not {item.dtype} {item.shape[1:]}')
                return item[position]
        except (OSError, KeyError, ValueError, TypeError, RuntimeError, MemoryError) as error:
            raise CorruptFileError(f"Entry {position} of '{name}' in '{self.path}' cannot be read: {error}") from error

    def _read_shapes(self) -> dict[str, tuple[int, ...]]:
        with _lock:
            return {name: item.shape for name, item in self._handle().items() if getattr(item, 'shape', None)}

    def _handle(self) -> Any:
        process = os.getpid()
        if process not in self._handles:
            try:
                import h5py
            except ImportError:
                raise ConfigError(f"Reading '{self.path}' needs the package h5py. Run: pip install mtl_plugins[nyuv2]") from None
            try:
                self._handles[process] = h5py.File(self.path, 'r')
            except FileNotFoundError:
                raise DataNotFoundError(f"The file '{self.path}' does not exist.") from None
            except OSError as error:
                raise CorruptFileError(
                    f"'{self.path}' should be an HDF5 file (MATLAB v7.3). It cannot be opened: {error}"
                ) from error
        return self._handles[process]

    def __reduce__(self):
        return Hdf5File, (self.path,)
