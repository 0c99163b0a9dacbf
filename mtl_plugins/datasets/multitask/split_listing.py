"""The files of a split."""

import logging
import os
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from mmengine.logging import print_log

from mtl_plugins.errors import ArgumentError, DataError, DataNotFoundError, SplitNotFoundError
from mtl_plugins.labels.decoding import IMAGE_SUFFIXES
from mtl_plugins.labels.label_kind import LabelKind
from mtl_plugins.labels.presets import (
    DESCRIPTION,
    MINISCAPES_TASKS,
    SAMPLES_PAGE,
    build_labels,
    described_layout,
    miniscapes_labels,
)
from mtl_plugins.utils.files import natural_order, read_lines

HOW_TO_MAKE = (
    'Set the place with `--data-root` or the environment variable MTL_DATA_ROOT, or generate a data set: `mtl data make OUT` '
    'draws street scenes, `mtl data make-coco OUT` objects.'
)
# What file managers leave behind, and what `mtl data inspect` writes.
_NO_DATA = ('Thumbs.db', 'desktop.ini', DESCRIPTION, SAMPLES_PAGE)


class SplitListing(NamedTuple):
    """The samples of one split, in order.

    Attributes:
        stems: Values of ``{stem}`` in the templates, one per sample; ``image`` is that of the images.
        labels: The labels that the split has, by name.
        files: For each sample the paths of its image, as ``'rgb'``, and of each label, by name; none where it lacks the label.
    """

    root: Path
    split: str
    stems: list[str]
    image: str
    labels: dict[str, LabelKind]
    files: dict[str, list[tuple[str, ...]]]

    @property
    def folder(self) -> Path:
        """``<root>/<split>``."""
        return self.root / self.split

    def samples(self) -> list[dict]:
        """The data info of each sample, see :class:`~mtl_plugins.datasets.loading.labelled_dataset.LabelledDataset`."""
        samples = []
        for position, (stem, (image,)) in enumerate(zip(self.stems, self.files['rgb'], strict=True)):
            paths = {name: self.files[name][position] for name in self.labels if self.files[name][position]}
            samples.append(dict(stem=stem, img_path=image, label_paths=paths, split_position=position))
        return samples

    def stamps(self, name: str) -> list[list[tuple[int, int]]]:
        """For each file of each sample its size, and when its content, name, owner or time was last changed, in nanoseconds.

        No program can set that time back.
        """
        found = ([os.stat(path) for path in paths] for paths in self.files[name])
        # Windows has no time of the last change.
        return [[(each.st_size, max(each.st_ctime_ns, each.st_mtime_ns)) for each in sample] for sample in found]


def check_root(data_root: str | Path) -> Path:
    """Return the path of a data root, or raise a DataNotFoundError."""
    root = Path(data_root)
    if not data_root or not root.is_dir():
        raise DataNotFoundError(f"The data root '{data_root}' does not exist. {HOW_TO_MAKE}")
    return root


def list_split(
    data_root: str | Path,
    split: str,
    labels: Mapping[str, LabelKind],
    image: str = '{split}/rgb/{stem}.jpg',
    stem: str = r'\d+',
    split_file: str | None = None,
    missing_labels: Sequence[str] = (),
    keep: Callable[[str], bool] | None = None,
    source: str | None = None,
    val_every: int | None = None,
) -> SplitListing:
    """List the images of a split and check that each has its labels.

    Only a split named ``test`` may lack all labels of a kind, and only those in ``missing_labels`` may lack them for some samples
    or all. Suffixes may be in upper case, and those of images of any format that can be read, but then the sample needs a label
    if others have one. Folders may be links. A warning counts images and labels that are not taken; hidden files do not count.

    Arguments are those of `MultiTaskDataset`, and ``keep``: which of the stems found in the folder belong to the split, where the
    folder does not say; all by default. ``source`` is the name of the split in the folder, if it is another one there; with
    ``val_every`` the first of so many, in the order of their names, belongs to ``val`` and the others to ``train``.

    Raises:
        ArgumentError: If the template of the images has not one ``{stem}``.
        DataError: If the root, the split, its images or a label is missing, or two images have one name that fits no template.
    """
    if image.count('{stem}') != 1:
        raise ArgumentError(f'`image` should have one {{stem}}. Found {image!r}.')
    root = check_root(data_root)
    folders = _Folders(root)
    source = source or split
    template = _fill(image, source, '')
    templates = {name: [_fill(each, source, name) for each in kind.templates] for name, kind in labels.items()}
    unread: list[str] = []
    if split_file is None:
        images, unread = _find_images(root, source, template, stem, [each for some in templates.values() for each in some])
        stems = sorted((name for name in images if keep is None or keep(name)), key=natural_order)
        if not stems:
            raise DataNotFoundError(f"The split '{split}' is empty: none of the {len(images)} images of '{root}' belongs to it.")
    else:
        path = root / split_file.replace('{split}', source)
        if not path.exists():
            raise SplitNotFoundError(f"The data root '{root}' has no split '{split}': the split file '{path}' does not exist.")
        stems = read_lines(path, 'split file')
        doubled = next((name for name, count in Counter(stems).items() if count > 1), None)
        if doubled is not None:
            raise DataNotFoundError(
                f"The split file '{path}' should name different samples, one a line. Found {doubled!r} twice."
            )
        images = {name: folders.find(template.replace('{stem}', name), IMAGE_SUFFIXES) for name in stems}
    files: dict[str, list[list[str] | None]] = {}
    for name, each in templates.items():
        found = ([folders.find(path.replace('{stem}', stem)) for path in each] for stem in stems)
        files[name] = [None if None in paths else paths for paths in found]
    if split_file is None:
        # Where others have a label, images of other formats without one are something else.
        has_label = [any(each[position] for each in files.values()) for position in range(len(stems))]
        none_has, exact = not any(has_label), [images[name] == template.replace('{stem}', name) for name in stems]
        kept = [position for position in range(len(stems)) if none_has or has_label[position] or exact[position]]
        unread += [images[stems[position]] for position in set(range(len(stems))) - set(kept)]
        stems = [stems[position] for position in kept]
        files = {name: [each[position] for position in kept] for name, each in files.items()}
    elif None in images.values():
        lacking = [name for name in stems if images[name] is None]
        path = template.replace('{stem}', lacking[0])
        raise DataNotFoundError(f"The image '{root}/{path}' does not exist ({len(lacking)} of {len(stems)} are missing).")
    everything = stems
    if val_every is not None:
        kept = [position for position in range(len(stems)) if (position % val_every == 0) == (split == 'val')]
        if not kept:
            raise DataNotFoundError(
                f"The split '{split}' is empty: `val_every` {val_every} leaves it none of {len(stems)} images."
            )
        print_log(
            f"{root}: one image of {val_every}, in the order of names, is for validation. The split '{split}' has {len(kept)} of "
            f'{len(stems)} images. `val_every` in {DESCRIPTION} sets another number.',
            logger='current',
        )
        stems = [stems[position] for position in kept]
        files = {name: [each[position] for position in kept] for name, each in files.items()}
    present = {}
    for name, kind in labels.items():
        optional = name in missing_labels
        lacking = [position for position, each in enumerate(files[name]) if each is None]
        if len(lacking) == len(stems) and (optional or split == 'test'):
            continue
        if lacking and not optional:
            path = templates[name][0].replace('{stem}', stems[lacking[0]])
            hint = " Only the split 'test' may go without labels, and those that `missing_labels` names."
            hint = hint if len(lacking) == len(stems) else ''
            namesakes = folders.names(os.path.dirname(path)).get(split_suffix(os.path.basename(path))[0])
            hint = f" There is '{namesakes[0]}': `path` of the label names the suffix." if namesakes else hint
            raise DataNotFoundError(
                f"The label file '{root}/{path}' does not exist ({len(lacking)} of {len(stems)} images lack theirs).{hint}"
            )
        present[name] = kind
    if split_file is None and keep is None:
        left = {'files': unread}
        for name in present:
            if '{split}' in labels[name].templates[0]:
                left[f'labels of {name} without an image'] = folders.spare(templates[name][0], everything)
        tell_left_out(f"The split '{split}'", len(stems), left)
    # A template may be an absolute path.
    paths = dict(rgb=[(os.path.join(root, images[name]),) for name in stems])
    for name in present:
        paths[name] = [tuple(os.path.join(root, path) for path in each or ()) for each in files[name]]
    return SplitListing(root, split, stems, image, present, paths)


def list_miniscapes(data_root: str | Path, split: str, tasks: Sequence[str] = MINISCAPES_TASKS) -> SplitListing:
    """:func:`list_split` of a folder in MiniScapes format, with the labels that its ``dataset.json`` may describe."""
    offered = miniscapes_labels(data_root)
    labels = build_labels(offered, [name for name in tasks if name in offered])
    return list_split(data_root, split, labels, **described_layout(data_root, split))


def walk_files(folder: Path, deep: bool = True, parents: tuple[str, ...] = ()) -> Iterator[str]:
    """Paths of the files in a folder, and in its subfolders, relative to it; links are followed.

    Hidden files and the page of `mtl data inspect` are left out.
    """
    real = os.path.realpath(folder)
    if real in parents:
        return
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith('.') or entry.name == SAMPLES_PAGE:
                continue
            if not entry.is_dir():
                yield entry.name
            elif deep:
                yield from (f'{entry.name}/{path}' for path in walk_files(Path(entry.path), deep, (*parents, real)))


def split_suffix(name: str) -> tuple[str, str]:
    """A name, or the end of one such as ``_gtFine.png``, and its suffix with the dot."""
    start, dot, suffix = name.rpartition('.')
    return (start, dot + suffix) if dot and '/' not in suffix else (name, '')


class _Folders:
    """Contents of the folders below a root; each is read once."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._names: dict[str, dict[str, list[str]]] = {}

    def names(self, folder: str) -> dict[str, list[str]]:
        """The names in a folder, by what they are without their suffix; none if it does not exist."""
        if folder not in self._names:
            self._names[folder] = {}
            if (self.root / folder).is_dir():
                for name in os.listdir(self.root / folder):
                    self._names[folder].setdefault(split_suffix(name)[0], []).append(name)
        return self._names[folder]

    def find(self, path: str, suffixes: Sequence[str] = ()) -> str | None:
        """The file, or the one whose suffix is another of ``suffixes`` or in another case."""
        folder, slash, name = path.rpartition('/')
        start, suffix = split_suffix(name)
        names = self.names(folder).get(start, ())
        if name in names:
            return path
        found = [each for each in names if split_suffix(each)[1].lower() in (suffix.lower(), *suffixes)]
        if len(found) > 1:
            raise DataError(
                f"'{self.root / folder}' should have one file '{start}'. Found {' and '.join(sorted(found))}; remove all but one."
            )
        return folder + slash + found[0] if found else None

    def spare(self, template: str, stems: Sequence[str]) -> list[str]:
        """The files in the folders read so far that fit a template with none of the stems."""
        known = set(stems)
        paths = (f'{folder}/{name}' for folder, names in self._names.items() for each in names.values() for name in each)
        found = ((path, _stem_of(template, path)) for path in paths)
        return [path for path, stem in found if stem is not None and stem not in known and '/.' not in path]


def _stem_of(template: str, path: str) -> str | None:
    """Return the ``{stem}`` of a path, ignoring the case of its suffix; None if the template does not fit."""
    before, _, after = template.partition('{stem}')
    (start, suffix), (end, expected) = split_suffix(path), split_suffix(after)
    fits = suffix.lower() == expected.lower() and start.startswith(before) and start.endswith(end)
    return start[len(before) : len(start) - len(end)] if fits and len(start) > len(before) + len(end) else None


def _fill(template: str, split: str, name: str) -> str:
    return template.replace('{split}', split).replace('{name}', name)


def _find_images(root: Path, split: str, image: str, stem: str, labels: Sequence[str]) -> tuple[dict[str, str], list[str]]:
    """The images in a folder by stem, and the files that are neither an image nor a label."""
    before, after = image.split('{stem}')
    folder, prefix = os.path.split(before)
    if not (root / folder).is_dir():
        raise SplitNotFoundError(
            f"The data root '{root}' has no split '{split}': the folder '{root / folder}' does not exist. {HOW_TO_MAKE}"
        )
    end, suffix = split_suffix(after)
    pattern = re.compile(f'{re.escape(prefix)}({stem}){re.escape(end)}')
    images: dict[str, str] = {}
    others: dict[str, list[str]] = {}
    unread = []
    # Labels and splits may be subfolders themselves where images lie directly below the root.
    for path in walk_files(root / folder, '/' in f'{folder}{stem}{after}'):
        start, found = split_suffix(path)
        match, place = pattern.fullmatch(start), f'{folder}/{path}' if folder else path
        if match and found == suffix:
            images[match[1]] = place
        elif not any(_stem_of(each, place) is not None for each in labels):
            if match and found.lower() in (suffix.lower(), *IMAGE_SUFFIXES):
                others.setdefault(match[1], []).append(place)
            elif path.rpartition('/')[2] not in _NO_DATA:
                unread.append(place)
    for name, places in others.items():
        if name in images:
            unread += places
        elif len(places) == 1:
            images[name] = places[0]
        else:
            names = ' and '.join(sorted(f"'{root}/{place}'" for place in places))
            raise DataError(f'Images should have different names. Found {names}; remove all but one.')
    if not images:
        shown = image.rsplit('/', 1)[-1].replace('{stem}', '<index>' if stem == r'\d+' else '<name>')
        found = f" Found '{min(unread)}': `image` and `stem` of the data set say where images are." if unread else ''
        raise DataNotFoundError(f"The split '{split}' is empty: '{root / folder}' holds no file named {shown}.{found}")
    return images, unread


def tell_left_out(place: str, count: int, left: Mapping[str, Sequence[str]]) -> None:
    """Warn of files that are there and not among the ``count`` samples, by what they are called."""
    told = [
        f'{what}: {len(paths)} ({", ".join(sorted(paths, key=natural_order)[:3])}{", ..." if len(paths) > 3 else ""})'
        for what, paths in left.items()
        if paths
    ]
    if told:
        print_log(f'{place} has {count} samples. Left out: {"; ".join(told)}.', logger='current', level=logging.WARNING)
