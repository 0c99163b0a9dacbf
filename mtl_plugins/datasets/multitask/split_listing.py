"""Which files a MiniScapes split holds."""

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from mtl_plugins.errors import DataNotFoundError

TASKS = ('semseg', 'depth')
_IMAGE_NAME = re.compile(r'\d+\.jpg')
_HOW_TO_MAKE = (
    'Set the place with `--data-root` or the environment variable MTL_DATA_ROOT, or make a synthetic set: '
    'python tools/dataset_tools/make_dataset.py'
)


class FileStamp(NamedTuple):
    """What tells a changed file from an unchanged one without reading it."""

    size: int
    mtime_ns: int


class SplitListing(NamedTuple):
    """The samples of one split, in the order of their index.

    Attributes:
        folder: ``<root>/<split>``.
        stems: File names without suffix, one per sample.
        tasks: The tasks whose label files exist, one for every image.
    """

    folder: Path
    stems: list[str]
    tasks: tuple[str, ...]

    def image_path(self, position: int) -> str:
        return f'{self.folder}/rgb/{self.stems[position]}.jpg'

    def label_path(self, task: str, position: int) -> str:
        return f'{self.folder}/{task}/{self.stems[position]}.png'

    def stamps(self, folder: str) -> list[FileStamp]:
        """Size and modification time of the files of ``'rgb'`` or a task, in the order of the samples."""
        suffix = '.jpg' if folder == 'rgb' else '.png'
        wanted = set(self.stems)
        found = {}
        with os.scandir(self.folder / folder) as entries:
            for entry in entries:
                stem, entry_suffix = os.path.splitext(entry.name)
                if entry_suffix == suffix and stem in wanted:
                    status = entry.stat()
                    found[stem] = FileStamp(status.st_size, status.st_mtime_ns)
        return [found[stem] for stem in self.stems]


def check_tasks(tasks: Sequence[str]) -> tuple[str, ...]:
    """``tasks`` as a tuple.

    Raises:
        ValueError: If it is not a sequence of different task names.
    """
    if isinstance(tasks, str) or len(set(tasks)) != len(tasks) or not set(tasks) <= set(TASKS):
        raise ValueError(f'`tasks` should be a sequence of different names out of {TASKS}. Found {tasks!r}.')
    return tuple(tasks)


def list_split(data_root: str | Path, split: str, tasks: Sequence[str] = TASKS) -> SplitListing:
    """List ``<data_root>/<split>/rgb/<index>.jpg`` and check that each image has its labels.

    Only a split named ``test`` may lack a label folder. Files with other names are left alone.

    Raises:
        ValueError: If ``tasks`` holds an unknown name.
        DataNotFoundError: If the root, the split, its images or a label file is missing.
    """
    tasks = check_tasks(tasks)
    root = Path(data_root)
    folder = root / split
    if not data_root or not root.is_dir():
        raise DataNotFoundError(f"The data root '{data_root}' does not exist. {_HOW_TO_MAKE} {data_root or 'OUT'}")
    if not (folder / 'rgb').is_dir():
        raise DataNotFoundError(
            f"The data root '{data_root}' has no split '{split}': the folder '{folder}/rgb' does not exist. {_HOW_TO_MAKE} OUT"
        )
    stems = [name[:-4] for name in os.listdir(folder / 'rgb') if _IMAGE_NAME.fullmatch(name)]
    if not stems:
        raise DataNotFoundError(f"The split '{split}' is empty: '{folder}/rgb' holds no file named <index>.jpg.")
    stems.sort(key=lambda stem: (int(stem), stem))
    present = [task for task in tasks if (folder / task).is_dir() or split != 'test']
    for task in present:
        _check_labels(folder / task, stems)
    return SplitListing(folder, stems, tuple(present))


def _check_labels(folder: Path, stems: list[str]) -> None:
    if not folder.is_dir():
        raise DataNotFoundError(f"The label folder '{folder}' does not exist. Only the split 'test' may go without labels.")
    names = set(os.listdir(folder))
    missing = [stem for stem in stems if f'{stem}.png' not in names]
    if missing:
        raise DataNotFoundError(
            f"The label file '{folder}/{missing[0]}.png' does not exist ({len(missing)} of {len(stems)} images lack theirs)."
        )
