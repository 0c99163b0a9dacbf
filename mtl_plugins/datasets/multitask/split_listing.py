"""Which files a split holds."""

import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from mtl_plugins.errors import DataNotFoundError
from mtl_plugins.labels.label_kind import LabelKind
from mtl_plugins.labels.presets import MINISCAPES_TASKS, build_labels, miniscapes_labels, miniscapes_missing_labels
from mtl_plugins.utils.files import natural_order, read_lines

_HOW_TO_MAKE = (
    'Set the place with `--data-root` or the environment variable MTL_DATA_ROOT, or make a synthetic set: '
    'python tools/dataset_tools/make_dataset.py'
)


class FileStamp(NamedTuple):
    """Size of a file, and when its content, name, owner or time was last changed: no program can set that back."""

    size: int
    changed_ns: int


class SplitListing(NamedTuple):
    """The samples of one split, in order.

    Attributes:
        root: The data root.
        split: Name of the split.
        stems: What ``{stem}`` stands for in the templates, one per sample.
        image: Template of the images.
        labels: The labels that the split has, by name.
        missing: Positions of the samples without a label, by its name.
    """

    root: Path
    split: str
    stems: list[str]
    image: str
    labels: dict[str, LabelKind]
    missing: dict[str, frozenset[int]]

    @property
    def folder(self) -> Path:
        """``<root>/<split>``."""
        return self.root / self.split

    def image_path(self, position: int) -> str:
        return self._path(self.image, '', position)

    def label_paths(self, name: str, position: int) -> tuple[str, ...] | None:
        """The files of a label; None if the sample has none."""
        if position in self.missing.get(name, ()):
            return None
        return tuple(self._path(template, name, position) for template in self.labels[name].templates)

    def _path(self, template: str, name: str, position: int) -> str:
        # Several times faster than `format`, for splits of many thousand samples.
        relative = template.replace('{split}', self.split).replace('{name}', name).replace('{stem}', self.stems[position])
        return f'{self.root}/{relative}'

    def files(self, name: str, position: int) -> tuple[str, ...]:
        """The files of the image (``'rgb'``) or of a label; none if the sample has no such label."""
        return (self.image_path(position),) if name == 'rgb' else self.label_paths(name, position) or ()

    def stamps(self, name: str) -> list[list[FileStamp]]:
        """Those of :meth:`files` for each sample."""
        folders: dict[str, dict[str, FileStamp]] = {}
        stamps = []
        for position in range(len(self.stems)):
            stamps.append([])
            for path in self.files(name, position):
                folder, file_name = os.path.split(path)
                if folder not in folders:
                    folders[folder] = dict(_stamps_in(folder))
                stamps[-1].append(folders[folder][file_name])
        return stamps


def _stamps_in(folder: str) -> Iterable[tuple[str, FileStamp]]:
    with os.scandir(folder) as entries:
        for entry in entries:
            try:
                status = entry.stat()
            except OSError:
                # A link to nowhere.
                continue
            # Windows has no time of the last change.
            yield entry.name, FileStamp(status.st_size, max(status.st_ctime_ns, status.st_mtime_ns))


def list_split(
    data_root: str | Path,
    split: str,
    labels: Mapping[str, LabelKind],
    image: str = '{split}/rgb/{stem}.jpg',
    stem: str = r'\d+',
    split_file: str | None = None,
    missing_labels: Sequence[str] = (),
    keep: Callable[[str], bool] | None = None,
) -> SplitListing:
    """List the images of a split and check that each has its labels.

    Only a split named ``test`` may lack all labels of a kind, and only those in ``missing_labels`` may lack them for some samples
    or all. Files with other names are left alone.

    Args:
        data_root: The data root.
        split: Name of the split.
        labels: The labels that are wanted.
        image: Template of the images below the root, with ``{split}`` and one ``{stem}``.
        stem: Regular expression of what ``{stem}`` stands for; with a slash in it images are looked for in subfolders.
        split_file: Template of a file below the root that names the stems, one a line, instead of what the folder holds.
        missing_labels: Names of labels that samples may lack.
        keep: Which of the stems found in the folder belong to the split, where the folder does not say; all by default.

    Raises:
        ValueError: If the template of the images has not one ``{stem}``.
        DataNotFoundError: If the root, the split, its images or a label file is missing.
    """
    if image.count('{stem}') != 1:
        raise ValueError(f'`image` should have one {{stem}}. Found {image!r}.')
    root = Path(data_root)
    if not data_root or not root.is_dir():
        raise DataNotFoundError(f"The data root '{data_root}' does not exist. {_HOW_TO_MAKE} {data_root or 'OUT'}")
    if split_file is None:
        found = _find_stems(root, split, image, stem)
        stems = [name for name in found if keep(name)] if keep else found
        if not stems:
            raise DataNotFoundError(f"The split '{split}' is empty: none of the {len(found)} images of '{root}' belongs to it.")
    else:
        stems = _read_stems(root / split_file.replace('{split}', split))
    present, missing = {}, {}
    for name, kind in labels.items():
        optional = name in missing_labels
        lacking = _find_missing(root, split, name, kind, stems, optional)
        if len(lacking) == len(stems) and (optional or split == 'test'):
            continue
        if lacking and not optional:
            path = _fill(kind.templates[0], split, name, stems[min(lacking)])
            raise DataNotFoundError(
                f"The label file '{root}/{path}' does not exist ({len(lacking)} of {len(stems)} images lack theirs)."
            )
        present[name] = kind
        missing[name] = frozenset(lacking)
    return SplitListing(root, split, stems, image, present, missing)


def list_miniscapes(data_root: str | Path, split: str, tasks: Sequence[str] = MINISCAPES_TASKS) -> SplitListing:
    """:func:`list_split` of a folder in MiniScapes format, with the labels that its ``dataset.json`` may describe."""
    offered = miniscapes_labels(data_root)
    labels = build_labels(offered, [name for name in tasks if name in offered])
    return list_split(data_root, split, labels, missing_labels=miniscapes_missing_labels(data_root))


def _fill(template: str, split: str, name: str, stem: str) -> str:
    return template.replace('{split}', split).replace('{name}', name).replace('{stem}', stem)


def _find_stems(root: Path, split: str, image: str, stem: str) -> list[str]:
    before, after = image.replace('{split}', split).split('{stem}')
    folder, prefix = os.path.split(before)
    if not (root / folder).is_dir():
        raise DataNotFoundError(
            f"The data root '{root}' has no split '{split}': the folder '{root / folder}' does not exist. {_HOW_TO_MAKE} OUT"
        )
    pattern = re.compile(f'{re.escape(prefix)}({stem}){re.escape(after)}')
    if '/' in stem or '/' in after:
        places = (path.relative_to(root / folder).as_posix() for path in (root / folder).rglob(f'*{Path(after).suffix}'))
    else:
        places = iter(os.listdir(root / folder))
    stems = [match[1] for match in map(pattern.fullmatch, places) if match]
    if not stems:
        shown = image.rsplit('/', 1)[-1].replace('{stem}', '<index>' if stem == r'\d+' else '<name>')
        raise DataNotFoundError(f"The split '{split}' is empty: '{root / folder}' holds no file named {shown}.")
    return sorted(stems, key=natural_order)


def _read_stems(path: Path) -> list[str]:
    stems = read_lines(path, 'split file')
    if len(set(stems)) != len(stems):
        doubled = next(stem for stem in stems if stems.count(stem) > 1)
        raise DataNotFoundError(f"The split file '{path}' should name different samples, one a line. Found {doubled!r} twice.")
    return stems


def _find_missing(root: Path, split: str, name: str, kind: LabelKind, stems: list[str], optional: bool) -> set[int]:
    """Positions of the samples that lack a file of the label."""
    names: dict[str, set[str]] = {}
    missing = set()
    for template in kind.templates:
        for position, stem in enumerate(stems):
            folder, file_name = os.path.split(_fill(template, split, name, stem))
            if folder not in names:
                path = root / folder
                if not path.is_dir() and split != 'test' and not optional:
                    raise DataNotFoundError(
                        f"The label folder '{path}' does not exist. Only the split 'test' may go without labels, and those that "
                        '`missing_labels` names.'
                    )
                names[folder] = set(os.listdir(path)) if path.is_dir() else set()
            if file_name not in names[folder]:
                missing.add(position)
    return missing
