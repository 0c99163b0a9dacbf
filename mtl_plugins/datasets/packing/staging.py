"""A packed data set on the disk of the node that trains, where a shared disk is slow."""

import errno
import hashlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mtl_plugins.errors import DataError, DataNotFoundError
from mtl_plugins.utils.files import describe_os_error, locked, make_folder, remove_leftovers, replace_folder, scratch_folder

# As in `packed`, which is not imported: this module starts in no time, before every training of a node.
FOLDER_NAME = 'packed'
_INDEX_NAME = 'index.json'
_ARRAYS = '*.npy'


def stage(data_root: str | os.PathLike, target: str | os.PathLike) -> Path:
    """Copy the packed folders of ``data_root`` to a folder within ``target``, on the disk of the node, and return this data root.

    All else in it is a link to the original: a packed folder is used as long as it matches the files it was made from, and those
    are the original's own. A copy that is complete already is used as it is. It is made anew if the original was packed anew, an
    array of either was written since, or anything was added or removed beside it. Of several processes of a node one copies and
    the others wait for it. The copy appears when complete.

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
            f"The data root '{data_root}' has no packed split to copy to the node. Run `mtl data pack` {data_root}"
        )
    folder = Path(target).absolute() / f'mtl_{source.name}_{hashlib.sha256(str(source).encode()).hexdigest()[:8]}'
    make_folder(folder.parent, DataError)
    try:
        with locked(folder.with_name(f'{folder.name}.lock')):
            # Also where nothing is to be copied: an older copy takes room.
            remove_leftovers(folder.parent)
            if not _is_copy(source, packed, folder):
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


def _is_copy(source: Path, packed: list[Path], folder: Path) -> bool:
    try:
        return _contents(source, packed) == _contents(folder, [folder / path.relative_to(source) for path in packed], linked=True)
    except OSError:
        return False


def _contents(root: Path, packed: list[Path], linked: bool = False) -> dict[str, Any]:
    """List a data root by name: sizes and times of the arrays, how they were made, and the paths of the rest."""
    found: dict[str, Any] = {}
    for place in (root, *(path.parent for path in packed)):
        for entry in _entries(place, packed):
            found[str(entry.relative_to(root))] = os.readlink(entry) if linked else str(entry)
    for path in packed:
        found[str(path.relative_to(root))] = (path / _INDEX_NAME).read_bytes()
        for array in path.glob(_ARRAYS):
            status = array.stat()
            found[str(array.relative_to(root))] = (status.st_size, status.st_mtime_ns)
    return found


def _entries(place: Path, packed: list[Path]) -> Iterator[Path]:
    """Return the entries to link: all but packed folders, the splits that have one, and files being written."""
    own = {*packed, *(path.parent for path in packed)}
    return (entry for entry in place.iterdir() if entry not in own and not entry.name.startswith('.'))


def _copy(source: Path, packed: list[Path], folder: Path) -> None:
    with scratch_folder(folder) as partial:
        for path in packed:
            (partial / path.parent.name / FOLDER_NAME).mkdir(parents=True)
            for file in path.iterdir():
                target = partial / path.parent.name / FOLDER_NAME / file.name
                shutil.copyfile(file, target)
                shutil.copystat(file, target)
        for place in (source, *(path.parent for path in packed)):
            for entry in _entries(place, packed):
                (partial / entry.relative_to(source)).symlink_to(entry)
        # Processes that have the older copy open keep it.
        replace_folder(partial, folder)
