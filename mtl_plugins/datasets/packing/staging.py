"""A packed data set on the disk of the node that trains, where a shared disk is slow."""

import errno
import fcntl
import hashlib
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mtl_plugins.errors import DataError, DataNotFoundError
from mtl_plugins.utils.files import describe_os_error, make_folder

# As in `packed`, which is not imported: this module starts in no time, before every training of a node.
FOLDER_NAME = 'packed'
_INDEX_NAME = 'index.json'


def stage(data_root: str | os.PathLike, target: str | os.PathLike) -> Path:
    """Copy the packed folders of ``data_root`` to a folder within ``target`` that can be used as the data root.

    All else in it is a link to the original: a packed folder is used as long as it matches names, sizes and times of the files it
    was made from, and those are the original's own. A folder that is complete already is used as it is, one whose original was
    packed anew is replaced. Of several processes of a node one copies and the others wait for it. The copy appears when complete.

    Args:
        data_root: The data root, with ``<split>/packed`` in at least one split.
        target: A folder on the disk of the node.

    Returns:
        The staged data root, named after the original.

    Raises:
        DataNotFoundError: If the data root does not exist or has no packed split.
        DataError: If the disk has no room or cannot be written; nothing is left behind.
    """
    source = Path(data_root).absolute()
    if not source.is_dir():
        raise DataNotFoundError(f"The data root '{data_root}' does not exist. Set it with `--data-root` or MTL_DATA_ROOT.")
    packed = sorted(path.parent for path in source.glob(f'*/{FOLDER_NAME}/{_INDEX_NAME}'))
    if not packed:
        raise DataNotFoundError(
            f"The data root '{data_root}' has no packed split to copy to the node. Run tools/dataset_tools/pack_dataset.py "
            f'{data_root}'
        )
    folder = Path(target).absolute() / f'mtl_{source.name}_{hashlib.sha256(str(source).encode()).hexdigest()[:8]}'
    make_folder(folder.parent, DataError)
    try:
        with _locked(folder.with_name(f'{folder.name}.lock')):
            if not all(_is_copy(path, folder / path.relative_to(source)) for path in packed):
                _copy(source, packed, folder)
    except OSError as error:
        if error.errno == errno.ENOSPC:
            size = sum(entry.stat().st_size for path in packed for entry in path.iterdir())
            free = shutil.disk_usage(folder.parent).free
            raise DataError(
                f"Copying '{source}' needs {size / 2**30:.1f} GiB, and '{folder.parent}' has {free / 2**30:.1f} GiB left. Choose "
                'another folder.'
            ) from error
        raise DataError(describe_os_error(error, folder)) from error
    return folder


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with open(path, 'a', encoding='utf-8') as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _is_copy(source: Path, copy: Path) -> bool:
    # A split that is packed anew has other times in its index.
    if not (copy / _INDEX_NAME).is_file() or (copy / _INDEX_NAME).read_bytes() != (source / _INDEX_NAME).read_bytes():
        return False
    copies = {path.name: path.stat().st_size for path in copy.iterdir()}
    return all(copies.get(path.name) == path.stat().st_size for path in source.iterdir())


def _copy(source: Path, packed: list[Path], folder: Path) -> None:
    partial = folder.with_name(f'{folder.name}.partial')
    # What a process left that was killed in the middle; the lock keeps others out.
    shutil.rmtree(partial, ignore_errors=True)
    try:
        partial.mkdir()
        splits = {path.parent for path in packed}
        for entry in source.iterdir():
            if entry not in splits:
                (partial / entry.name).symlink_to(entry)
        for path in packed:
            split = partial / path.parent.name
            split.mkdir()
            for entry in path.parent.iterdir():
                if entry != path:
                    (split / entry.name).symlink_to(entry)
            (split / FOLDER_NAME).mkdir()
            for file in path.iterdir():
                shutil.copyfile(file, split / FOLDER_NAME / file.name)
        # Processes that have the older copy open keep it.
        shutil.rmtree(folder, ignore_errors=True)
        partial.rename(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
