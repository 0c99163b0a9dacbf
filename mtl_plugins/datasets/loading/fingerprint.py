"""Fingerprints of data, by which two runs know that they saw the same files."""

import hashlib
import os
from typing import Any


def fingerprint(dataset: Any) -> str | None:
    """Twelve hexadecimal digits of the names and sizes of a data set's files, in order; None if it does not name them.

    The same for a copy of the data in another place: neither the folder nor the time of a file counts, nor are files read.

    Args:
        dataset: An mmengine data set. Its samples name ``img_path``, ``label_paths`` or ``seg_map_path``, or at least a ``stem``.
    """
    if not hasattr(dataset, 'get_data_info'):
        return None
    root = str(getattr(dataset, 'data_root', None) or '')
    digest = hashlib.sha256()
    for position in range(len(dataset)):
        info = dataset.get_data_info(position)
        labels = info.get('label_paths') or {}
        paths = [info.get('img_path'), info.get('seg_map_path'), *(path for files in labels.values() for path in files)]
        named = [f'{str(path).removeprefix(root)} {_size(path)}' for path in paths if path]
        if not named and 'stem' not in info:
            return None
        digest.update('\n'.join([str(info.get('stem', '')), *named, '']).encode())
    return digest.hexdigest()[:12]


def _size(path: str) -> int | None:
    try:
        return os.stat(path).st_size
    except OSError:
        return None
