"""A guess of what a folder holds: which files are images, which are labels, and what their values mean."""

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from mtl_plugins.datasets.label_values import describe_classes, describe_depth, read_tables, read_values
from mtl_plugins.datasets.multitask.split_listing import walk_files
from mtl_plugins.errors import DataNotFoundError
from mtl_plugins.labels.decoding import IMAGE_SUFFIXES, is_array, read_numbers, read_vectors
from mtl_plugins.labels.label_kind import MANY
from mtl_plugins.utils.cli import track
from mtl_plugins.utils.files import natural_order
from mtl_plugins.utils.threads import map_in_order

SUFFIXES = (*IMAGE_SUFFIXES, '.gif', '.exr')
_SPLIT = re.compile(
    r'(?<![a-z])(?:train(?:ing|val)?|val(?:id|idation)?|dev|eval|test(?:ing)?)(?:\d{4})?(?:(?![a-z\d])|(?=annot))', re.I
)
_ROLES = dict(tr='train', va='val', de='val', ev='val', te='test')
_TAG, _LEAD = re.compile(r'[_\-.][A-Za-z][A-Za-z0-9]*$'), re.compile(r'[A-Za-z][A-Za-z_\- ]*(?=\d)')
_IS_LABEL = re.compile(r'label|mask|seg|annot|gt|truth|class|trimap', re.I)
_IS_DEPTH, _IS_IMAGE = re.compile('depth|disp', re.I), re.compile('image|img|rgb|left|photo', re.I)
# Not those of normalised depth.
_IS_NORMALS = re.compile(r'normals?(?![a-z])', re.I)
_IS_SKIPPED = re.compile(r'instance|inst_|panoptic|object$|object/', re.I)
# A pattern of names may have no more alternatives.
MOST_TAGS = 8


class Guess(NamedTuple):
    """A description of a folder: the content of ``dataset.json``, a reason for each guess, and oddities."""

    description: dict[str, Any]
    reasons: list[str]
    oddities: list[str]


class _Series(NamedTuple):
    """Files that follow one template; ``files`` are paths by split and ``{stem}``."""

    folder: str
    before: str
    after: str
    files: dict[tuple[str, str], str]

    @property
    def template(self) -> str:
        return f'{self.folder}/{self.before}{{stem}}{self.after}'.lstrip('/')

    def matches(self, image: '_Series') -> dict[tuple[str, str], str]:
        """The files here of images, by the keys of these."""
        own = {key: key if '{split}' in self.folder else ('', key[1]) for key in image.files}
        return {key: self.files[mine] for key, mine in own.items() if mine in self.files}


def guess_folder(root: str | Path, most: int = 300) -> Guess:
    """Guess the layout of a folder and the meaning of its labels from the names of all files and the content of some.

    Args:
        root: The folder.
        most: Number of files of a label that are read at most.

    Raises:
        DataNotFoundError: If the folder does not exist, or has no images or no labels.
    """
    root = Path(root)
    if not root.is_dir():
        raise DataNotFoundError(f"The folder '{root}' does not exist.")
    paths = sorted(walk_files(root), key=natural_order)
    pictures = [path for path in paths if path.lower().endswith(SUFFIXES)]
    if not pictures:
        raise DataNotFoundError(f"No images in '{root}'. Supported: {', '.join(IMAGE_SUFFIXES)}.")
    series, tags = _find_series(pictures)
    look = lru_cache(None)(lambda path, text: _look(root / path, text))
    kinds = [_kind_of(each, look) for each in series]
    image, labels, left = _choose(series, kinds)
    if image is None or not labels:
        found = ', '.join(sorted({f'{kind} in {each.template}' for each, kind in zip(series, kinds, strict=True) if kind})[:6])
        raise DataNotFoundError(
            f"'{root}' should have images, and labels with the same names in another folder or with a suffix. Found "
            f'{len(pictures)} files: {found or "none that can be read"}. JPEG files cannot be '
            'labels: save these as PNG. Another layout is described by hand, see docs/data_format.md.'
        )
    description: dict[str, Any] = dict(image=image.template)
    labelled = set().union(*(each.matches(image) for each, _ in labels.values()))
    reasons = [f'image: {image.template}, {len(image.files)} photographs, {len(labelled)} of them with labels of the same name.']
    oddities = [f'{each.template} looks like {kind} too and is left out.' for each, kind in left]
    suffix = f'.{image.after.rpartition(".")[2]}'
    if not any('/' in stem for _, stem in image.files):
        others = [tag for tag in tags.get((image.folder, suffix), ()) if image.after == suffix][:MOST_TAGS]
        if others:
            description['stem'] = f'(?!.*(?:{"|".join(map(re.escape, others))})$).+'
        elif not image.folder:
            description['stem'] = '.+'
    train = _describe_splits(root, image, labels, [path for path in paths if path.endswith('.txt')], description, reasons)
    tables = list(read_tables(root, paths))
    description['labels'] = {}
    for name, (each, kind) in labels.items():
        matched = each.matches(image)
        taken = _spread(list(matched.values()), most)
        read = map_in_order(lambda path, kind=kind: read_values(root / path, kind), taken, 2)
        found = [values for values in track(read, len(taken), name) if values is not None]
        if not found:
            config, why = None, 'no file of it can be read'
        elif kind == 'vectors':
            config, why = dict(type='SurfaceNormals'), 'vectors of three numbers; `axes` says which way they point'
        elif kind == 'depth':
            config, why = describe_depth(root, each.template, next(iter(matched)), image.template, found)
        else:
            config, why = describe_classes(each.template, kind, found, tables, len(taken) < len(matched), oddities)
        if config is None:
            oddities.append(f'{each.template} is left out: {why}.')
            continue
        description['labels'][name] = dict(type=config.pop('type'), path=each.template) | config
        reasons.append(f'labels.{name}: {each.template}, {why}.')
        lacking = [key for key in train if key not in matched]
        if lacking:
            description.setdefault('missing_labels', []).append(name)
            oddities.append(f'{len(lacking)} of {len(train)} images have no {name}, such as {lacking[0][1]}.')
    if not description['labels']:
        raise DataNotFoundError(f"'{root}' has no labels that can be used: {' '.join(oddities)}")
    return Guess(description, reasons, oddities)


def _spread(items: Sequence, most: int) -> list:
    """Return at most so many items, evenly spread."""
    return [items[int(place)] for place in np.linspace(0, len(items) - 1, min(most, len(items)))]


def _find_series(paths: Sequence[str]) -> tuple[list[_Series], dict[tuple[str, str], list[str]]]:
    """Group files by what their templates may be; also return the suffixes that tell files of one folder apart."""
    groups: dict[tuple[str, str], list[tuple[str, str, str]]] = {}
    for path in paths:
        *parents, name = path.split('/')
        place = next((part for part in parents if _SPLIT.search(part)), None)
        split = _SPLIT.search(place)[0] if place else ''
        folder = '/'.join(part.replace(split, '{split}') if split else part for part in parents)
        groups.setdefault((folder, Path(name).suffix), []).append((split, name, path))
    folders = {folder for folder, _ in groups}
    # Folders of cities or days may hold few files each.
    shared: dict[tuple[str, str], Counter] = {}
    for (folder, suffix), files in groups.items():
        counts = shared.setdefault((folder.rpartition('/')[0], suffix), Counter())
        counts.update(affix for _, name, _ in files for affix in _affixes(name.removesuffix(suffix)))
    found: dict[tuple[str, str, str], dict] = {}
    tags: dict[tuple[str, str], list[str]] = {}
    for (folder, suffix), files in groups.items():
        stems = [name.removesuffix(suffix) for _, name, _ in files]
        counts = Counter(affix for stem in stems for affix in _affixes(stem))
        around = shared[folder.rpartition('/')[0], suffix]
        usual = [
            affix
            for affix, count in counts.items()
            if count >= max(0.2 * len(stems), min(2, len(stems))) or around[affix] >= max(0.2 * around['', ''], 2)
        ]
        plain = set(stems)
        cores: dict[str, set] = {after: set() for before, after in usual if after and not before}
        for stem in stems:
            for before, after in _affixes(stem):
                if not before and after in cores:
                    cores[after].add(stem.removesuffix(after))
        others = {
            after: set().union(plain, *(cores[each] for each in cores if not after.endswith(each) and not each.endswith(after)))
            for after in cores
        }
        own = sorted(after for after, each in cores.items() if len(each & others[after]) >= 0.5 * len(each))
        tags[folder, suffix] = own
        bases = [folder]
        for _ in range(2):
            parent = bases[-1].rpartition('/')[0]
            is_shared = sum(each == parent or each.startswith(f'{parent}/') or not parent for each in folders) > 1
            if not bases[-1] or '{split}' in bases[-1][len(parent) :] or not is_shared:
                break
            bases.append(parent)
        for (split, _, path), stem in zip(files, stems, strict=True):
            for before, after in _affixes(stem):
                if (before, after) not in usual or any(stem.endswith(tag) and not after.endswith(tag) for tag in own):
                    continue
                core = stem[len(before) : len(stem) - len(after)]
                for base in bases:
                    inner = folder[len(base) :].lstrip('/')
                    if before and inner:
                        continue
                    key = f'{inner}/{core}' if inner else core
                    found.setdefault((base, before, after + suffix), {})[split, key] = path
    return [_Series(*key, files) for key, files in found.items()], tags


def _affixes(stem: str) -> list[tuple[str, str]]:
    """Candidates for the fixed part of a name: up to three words at its end, or one before a number."""
    found, rest = [('', '')], stem
    for _ in range(3):
        match = _TAG.search(rest)
        if not match or not match.start():
            break
        rest = rest[: match.start()]
        found.append(('', stem[len(rest) :]))
    lead = _LEAD.match(stem)
    if lead:
        found += [(lead[0], after) for _, after in found if len(lead[0]) + len(after) < len(stem)]
    return found


def _kind_of(series: _Series, look: Callable[[str, str], str]) -> str | None:
    """The kind of the content of some files, or None where they differ."""
    if _IS_SKIPPED.search(series.template):
        return None
    some = _spread(list(series.files.values()), 5)
    kinds = Counter(look(path, series.template) for path in some)
    kind, count = kinds.most_common(1)[0]
    return kind if count > 0.7 * len(some) else None


def _look(path: Path, text: str) -> str:
    """Return what a file holds: photo, grey, ids, colours, depth, vectors; an empty text if nothing that can be used."""
    name = str(path)
    try:
        if path.suffix.lower() == '.exr':
            return 'vectors' if _IS_NORMALS.search(text) else 'depth'
        if is_array(name):
            # Of an array only its head is read to see the shape.
            is_map = path.suffix != '.npy' or np.load(path, mmap_mode='r', allow_pickle=False).shape[-1:] != (3,)
            array = read_numbers(name, 'array') if is_map else read_vectors(name, 'array')
            if not is_map:
                return 'vectors' if array.min() < -0.01 else 'photo'
            numbers = np.nan_to_num(array)
            is_whole = bool((numbers == np.round(numbers)).all()) and len(np.unique(array)) <= 256
            return 'ids' if is_whole and not _IS_DEPTH.search(text) else 'depth'
        with Image.open(path) as image:
            mode, form, array = image.mode, image.format, np.asarray(image)
    except Exception:
        # Whatever cannot be read is no candidate.
        return ''
    if mode in ('P', '1'):
        return 'ids'
    if mode in ('F', 'I', 'I;16', 'I;16B'):
        few = len(np.unique(array)) <= 256 and array.max() < 1000 and not _IS_DEPTH.search(text)
        return 'ids' if few or (_IS_LABEL.search(text) and not _IS_DEPTH.search(text)) else 'depth'
    if array.ndim == 2:
        if _IS_DEPTH.search(text) and form == 'PNG':
            return 'depth'
        is_flat = len(np.unique(array)) <= 64 or (array[:, 1:] == array[:, :-1]).mean() > 0.6 or bool(_IS_LABEL.search(text))
        return ('' if form == 'JPEG' else 'ids') if is_flat else 'grey'
    if array.ndim != 3 or array.shape[-1] < 3:
        return ''
    if form == 'PNG' and _are_normals(array[..., :3]):
        return 'vectors'
    codes = array[..., 0].astype(np.int32) << 16 | array[..., 1].astype(np.int32) << 8 | array[..., 2]
    counts = np.sort(np.unique(codes, return_counts=True)[1])[::-1]
    is_flat = counts[:64].sum() > MANY * counts.sum()
    return 'colours' if is_flat and form == 'PNG' and mode in ('RGB', 'RGBA') else '' if is_flat else 'photo'


def _are_normals(codes: np.ndarray) -> bool:
    """Return True if nearly all pixels but the black ones, which are unknown, are codes of unit vectors."""
    length = np.linalg.norm((codes[codes.any(-1)] - 128.0) / 127, axis=-1)
    return length.size > 0 and (np.abs(length - 1) < 0.05).mean() > MANY


def _choose(
    series: Sequence[_Series], kinds: Sequence[str | None]
) -> tuple[_Series | None, dict[str, tuple[_Series, str]], list[tuple[_Series, str]]]:
    """Return the images, the best series of each kind of label by its name, and those that are not taken."""
    groups = dict(ids='semseg', colours='semseg', depth='depth', vectors='normals')
    photos = [each for each, kind in zip(series, kinds, strict=True) if kind == 'photo']
    photos = photos or [each for each, kind in zip(series, kinds, strict=True) if kind == 'grey']
    labels = [(each, kind) for each, kind in zip(series, kinds, strict=True) if kind in groups]

    def rank(image: _Series) -> tuple:
        best = Counter()
        for each, kind in labels:
            best[groups[kind]] = max(best[groups[kind]], len(each.matches(image)))
        is_split = '{split}' in image.folder
        return (
            sum(best.values()),
            bool(_IS_IMAGE.search(image.template)),
            is_split,
            -len(image.before + image.after),
            len(image.folder),
        )

    image = max(photos, key=rank, default=None)
    if image is None or not rank(image)[0]:
        return image, {}, []
    chosen: dict[str, tuple[_Series, str]] = {}
    left = []
    taken = set(image.files.values())
    for group in dict.fromkeys(groups.values()):
        offered = []
        for each, kind in labels:
            matched = len(each.matches(image))
            if groups[kind] == group and matched and taken.isdisjoint(each.files.values()):
                text = each.template.lower()
                hint = ('trainids' in text) + bool((_IS_DEPTH if group == 'depth' else _IS_LABEL).search(text))
                offered.append((matched, kind == 'ids', hint, -len(each.before + each.after), len(each.folder), each, kind))
        if offered:
            best = max(offered, key=lambda item: (item[0] >= 0.9 * max(each[0] for each in offered), *item[1:5], item[0]))
            chosen[group] = best[-2:]
            used = set(best[-2].files.values())
            for *_, each, kind in sorted(offered, key=lambda item: -item[0]):
                if used.isdisjoint(each.files.values()):
                    left.append((each, kind))
                    used |= set(each.files.values())
    return image, chosen, left


def _describe_splits(
    root: Path, image: _Series, labels: Mapping, lists: Sequence[str], description: dict[str, Any], reasons: list[str]
) -> list[tuple[str, str]]:
    """Add what says which images belong to which split; return the keys of the images that need labels."""
    names: dict[str, str] = {}
    for split, _ in image.files:
        names.setdefault(_ROLES.get(split[:2].lower(), 'train'), split)
    keys = list(image.files)
    labelled = set().union(*(each.matches(image) for each, _ in labels.values()))
    if '{split}' not in image.folder:
        found = _find_lists(root, lists, {stem for _, stem in keys}, {stem for _, stem in labelled})
        names = dict(train='')
        if found:
            template, names, stems = found
            description['split_file'] = template
            description.pop('stem', None)
            keys = [key for key in keys if key[1] in stems]
            reasons.append(f'split_file: {template}, lists of names of images.')
    elif 'train' not in names:
        names['train'] = next(iter(names.values()))
        names = {role: split for role, split in names.items() if role == 'train' or split != names['train']}
    has_val = 'val' in names and (description.get('split_file') or any(key in labelled for key in keys if key[0] == names['val']))
    if any(role != split for role, split in names.items()) and names['train']:
        description['splits'] = {role: split for role, split in names.items() if role != 'val' or has_val}
    if '{split}' in image.folder:
        counted = [f'{role} {sum(key[0] == names[role] for key in keys)}' for role in ('train', 'val', 'test') if role in names]
        reasons.append(f'splits: {", ".join(counted)} images, by the folders {", ".join(names.values())}.')
    if not has_val:
        number = len(keys) if '{split}' not in image.folder else sum(key[0] == names['train'] for key in keys)
        description['val_every'] = 10 if number >= 20 else max(3, number // 2)
        reasons.append(f'val_every: {description["val_every"]}, because there is no validation split with labels.')
    test = names.get('test')
    return [key for key in keys if not test or key[0] != test]


def _find_lists(
    root: Path, lists: Sequence[str], stems: set[str], labelled: set[str]
) -> tuple[str, dict[str, str], set[str]] | None:
    """Return the template of lists of names, their names by split, and the names they hold; the most labelled ones."""
    found: dict[str, dict[str, tuple[str, set[str]]]] = {}
    for path in lists:
        folder, slash, name = path.rpartition('/')
        match = _SPLIT.search(name)
        if not match or (root / path).stat().st_size > 2**24:
            continue
        lines = set((root / path).read_text(encoding='utf-8', errors='replace').split('\n')) - {''}
        lines = {line.strip() for line in lines}
        if lines and len(lines & stems) >= 0.9 * len(lines):
            template = folder + slash + name.replace(match[0], '{split}')
            role = 'trainval' if match[0].lower().startswith('trainval') else _ROLES[match[0][:2].lower()]
            found.setdefault(template, {})[role] = (match[0], lines)
    found = {template: each for template, each in found.items() if 'train' in each}
    if not found:
        return None
    template = max(found, key=lambda each: len(found[each]['train'][1] & labelled) / len(found[each]['train'][1]))
    roles = {role: each for role, each in found[template].items() if role in ('train', 'val', 'test')}
    needed = set().union(*(names for role, (_, names) in roles.items() if role != 'test'))
    return template, {role: name for role, (name, _) in roles.items()}, needed
