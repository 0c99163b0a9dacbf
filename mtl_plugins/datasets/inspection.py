"""A guess of what a folder holds: which files are images, which are labels, and what their values mean."""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from mtl_plugins.datasets.multitask.split_listing import walk_files
from mtl_plugins.errors import DataNotFoundError, UserError
from mtl_plugins.labels.cityscapes_classes import CLASSES, LABEL_IDS, PALETTE
from mtl_plugins.labels.class_map import OTHERS, make_palette
from mtl_plugins.labels.decoding import IMAGE_SUFFIXES, is_array, read_ids, read_numbers, read_rgb, read_vectors
from mtl_plugins.labels.label_kind import MANY
from mtl_plugins.utils.data_files import read_json
from mtl_plugins.utils.files import natural_order
from mtl_plugins.utils.threads import map_in_order

SUFFIXES = (*IMAGE_SUFFIXES, '.gif', '.exr')
_SPLIT = re.compile(
    r'(?<![a-z])(?:train(?:ing|val)?|val(?:id|idation)?|dev|eval|test(?:ing)?)(?:\d{4})?(?:(?![a-z\d])|(?=annot))', re.I
)
_ROLES = dict(tr='train', va='val', de='val', ev='val', te='test')
_TAG, _LEAD = re.compile(r'[_\-.][A-Za-z][A-Za-z0-9]*$'), re.compile(r'[A-Za-z][A-Za-z_\- ]*(?=\d)')
_IS_LABEL = re.compile(r'label|mask|seg|annot|gt|truth|class|trimap', re.I)
_IS_DEPTH, _IS_DISPARITY, _IS_IMAGE = (re.compile(each, re.I) for each in ('depth|disp', 'dispar', 'image|img|rgb|left|photo'))
_IS_SKIPPED = re.compile(r'instance|inst_|panoptic|object$|object/', re.I)
_IS_TABLE = re.compile(r'class|label|colou?r|categor|names|legend|objectinfo', re.I)
_IS_VOID = re.compile(r'void|unlabel|unknown|ignore', re.I)
# Ids or colours that are rarer than that among the pixels are edges of drawings; a zero that is rarer than RARE means unlabelled.
NOISE, RARE = 1e-4, 0.1
UNITS = '0.01 for centimetres, 0.00390625 (1/256) for KITTI, 0.0002 (1/5000) for TUM'
Progress = Callable[[Iterable, str, int], Iterable]


class Guess(NamedTuple):
    """What a folder may be: the content of ``dataset.json``, each guess with its reason, and what is odd."""

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

    def matches(self, image: '_Series') -> list[tuple[str, str]]:
        """Keys of the images that have a file here."""
        if '{split}' in self.folder:
            return [key for key in image.files if key in self.files] if '{split}' in image.folder else []
        return [key for key in image.files if ('', key[1]) in self.files]


def guess_folder(root: str | Path, most: int = 300, progress: Progress = lambda items, what, total: items) -> Guess:
    """Guess the layout of a folder and the meaning of its labels from the names of all files and the content of some.

    Args:
        root: The folder.
        most: Number of files of a label that are read at most.
        progress: Wraps the files of a label while they are read, with the label's name and their number.

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
        others = [tag for tag in tags.get((image.folder, suffix), ()) if image.after == suffix]
        if others:
            description['stem'] = f'(?!.*(?:{"|".join(map(re.escape, others))})$).+'
        elif not image.folder:
            description['stem'] = '.+'
    train = _describe_splits(root, image, labels, [path for path in paths if path.endswith('.txt')], description, reasons)
    tables = list(_read_tables(root, paths))
    description['labels'] = {}
    for name, (each, kind) in labels.items():
        matched = [each.files[key if key in each.files else ('', key[1])] for key in each.matches(image)]
        taken = [matched[int(place)] for place in np.linspace(0, len(matched) - 1, min(most, len(matched)))]
        read = map_in_order(lambda path, kind=kind: _read(root / path, kind), taken, 2)
        found = [array for array in progress(read, name, len(taken)) if array is not None]
        if not found:
            oddities.append(f'{each.template}: no file of it can be read.')
            continue
        if kind == 'vectors':
            config, why = dict(type='SurfaceNormals'), 'vectors of three numbers; `axes` says which way they point'
        elif kind == 'depth':
            config, why = _describe_depth(root, each, image, found)
        else:
            config, why = _describe_classes(each.template, kind, found, tables, len(taken) < len(matched), oddities)
        if config is None:
            oddities.append(f'{each.template} is left out: {why}.')
            continue
        description['labels'][name] = dict(type=config.pop('type'), path=each.template) | config
        reasons.append(f'labels.{name}: {each.template}, {why}.')
        lacking = [key for key in train if key not in set(each.matches(image))]
        if lacking:
            description.setdefault('missing_labels', []).append(name)
            oddities.append(f'{len(lacking)} of {len(train)} images have no {name}, such as {lacking[0][1]}.')
    if not description['labels']:
        raise DataNotFoundError(f"'{root}' has no labels that can be used: {' '.join(oddities)}")
    return Guess(description, reasons, oddities)


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
        usual = {
            affix
            for affix, count in counts.items()
            if count >= max(0.2 * len(stems), min(2, len(stems))) or around[affix] >= max(0.2 * around['', ''], 2)
        }
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
        own = [after for after, each in cores.items() if len(each & others[after]) >= 0.5 * len(each)]
        tags[folder, suffix] = own
        bases = [folder]
        for _ in range(2):
            parent = bases[-1].rpartition('/')[0]
            is_shared = sum(each == parent or each.startswith(f'{parent}/') or not parent for each in folders) > 1
            if not bases[-1] or '{split}' in bases[-1][len(parent) :] or not is_shared:
                break
            bases.append(parent)
        for (split, _, path), stem in zip(files, stems, strict=True):
            for before, after in usual & set(_affixes(stem)):
                if any(stem.endswith(tag) and not after.endswith(tag) for tag in own):
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
    """What may be around the varying part of a name: up to three words at its end, or one before a number."""
    found, rest = [('', '')], stem
    for _ in range(3):
        match = _TAG.search(rest)
        if not match or not match.start():
            break
        rest = rest[: match.start()]
        found.append(('', stem[len(rest) :]))
    lead = _LEAD.match(stem)
    return (
        [*found, *((lead[0], after) for _, after in found if lead and len(lead[0]) + len(after) < len(stem))] if lead else found
    )


def _kind_of(series: _Series, look: Callable[[str, str], str]) -> str | None:
    """The kind of the content of some files, or None where they differ."""
    paths = list(series.files.values())
    if _IS_SKIPPED.search(series.template):
        return None
    some = {paths[int(place)] for place in np.linspace(0, len(paths) - 1, min(5, len(paths)))}
    kinds = Counter(look(path, series.template) for path in some)
    kind, count = kinds.most_common(1)[0]
    return kind if count > 0.7 * len(some) else None


def _look(path: Path, text: str) -> str:
    """Return what a file holds: photo, grey, ids, colours, depth, vectors; an empty text if nothing that can be used."""
    try:
        if path.suffix.lower() == '.exr':
            return 'depth'
        array = np.load(path, mmap_mode='r', allow_pickle=False) if path.suffix == '.npy' else None
        if is_array(str(path)):
            array = (
                read_vectors(str(path), 'array')
                if array is not None and array.shape[-1:] == (3,)
                else read_numbers(str(path), 'array')
            )
        else:
            with Image.open(path) as image:
                mode, form = image.mode, image.format
                array = np.asarray(image)
    except Exception:
        return ''
    if is_array(str(path)):
        if array.ndim == 3:
            return 'vectors' if array.min() < -0.01 else 'photo'
        is_whole = array.dtype.kind in 'bui' or bool((np.nan_to_num(array) == np.round(np.nan_to_num(array))).all())
        return 'ids' if is_whole and len(np.unique(array)) <= 256 and not _IS_DEPTH.search(text) else 'depth'
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
    codes = array[..., 0].astype(np.int32) << 16 | array[..., 1].astype(np.int32) << 8 | array[..., 2]
    counts = np.sort(np.unique(codes, return_counts=True)[1])[::-1]
    is_flat = counts[:64].sum() > MANY * counts.sum()
    return 'colours' if is_flat and form == 'PNG' and mode in ('RGB', 'RGBA') else '' if is_flat else 'photo'


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


def _read_tables(root: Path, paths: Sequence[str]) -> Iterator[tuple[str, list[tuple[str, int | None, tuple[int, ...] | None]]]]:
    """Yield files that name classes: a name, an id and a colour in each line, of which the latter two may be absent."""
    for path in paths:
        name = path.rpartition('/')[2]
        is_table = _IS_TABLE.search(name) and name.lower().endswith(('.txt', '.csv', '.json')) and path.count('/') < 3
        if not is_table or (root / path).stat().st_size > 2**17 or name == 'dataset.json':
            continue
        if name.endswith('.json'):
            try:
                content = read_json(root / path, 'table of classes')
            except UserError:
                continue
            items = content.items() if isinstance(content, dict) else ()
            lines = [f'{key},{",".join(map(str, each))}' for key, each in items if isinstance(each, list)]
        else:
            lines = (root / path).read_text(encoding='utf-8', errors='replace').splitlines()
        rows = []
        for line in (each.strip() for each in lines if each.strip() and not each.startswith('#')):
            numbers = [int(each) for each in re.findall(r'(?<![\w.])\d+(?![\w.])', line)]
            words = re.search(r'[^\W\d](?:[\w /()-]*[\w)])?', line)
            if words:
                is_colour = len(numbers) in (3, 4) and max(numbers) < 256 and not re.search(r'\d\.\d', line)
                has_id = len(numbers) == 4 if is_colour else bool(numbers)
                rows.append((words[0], numbers[0] if has_id else None, tuple(numbers[-3:]) if is_colour else None))
        # Without the heads of columns.
        for column in (1, 2):
            full = [row for row in rows if row[column] is not None]
            rows = full if len(full) > 1 else rows
        if 2 <= len(rows) <= 255 and len({row[0] for row in rows}) == len(rows):
            yield path, rows


def _read(path: Path, kind: str) -> Any:
    """Return what is counted of a file: values with their numbers, or a few metres; None if it cannot be read."""
    try:
        if kind == 'vectors':
            return True
        if kind == 'depth':
            numbers = read_numbers(str(path), 'depth map')
            return numbers.dtype, numbers.ravel()[:: max(numbers.size // 20_000, 1)]
        if kind == 'colours':
            rgb = read_rgb(str(path), 'label').astype(np.int32)
            array = rgb[..., 0] << 16 | rgb[..., 1] << 8 | rgb[..., 2]
        else:
            array = read_ids(str(path))
    except UserError:
        return None
    values, counts = np.unique(array, return_counts=True)
    return Counter(dict(zip(values.tolist(), counts.tolist(), strict=True)))


def _describe_classes(
    template: str, kind: str, found: Sequence[Counter], tables: Sequence, is_sampled: bool, oddities: list[str]
) -> tuple[dict[str, Any] | None, str]:
    counts = sum(found, Counter())
    pixels = sum(counts.values())
    if kind == 'colours':
        config, why = _describe_colours(counts, pixels, tables)
    else:
        config, why = _describe_ids(template, counts, pixels, tables, oddities)
    if (
        config is not None
        and is_sampled
        and not {'mapping', 'reduce_zero_label'} & config.keys()
        and config.get('ignore') != OTHERS
    ):
        config['ignore'] = OTHERS
        oddities.append(
            f'{template}: {len(found)} files are counted; what occurs in others alone is ignored. `--samples` counts more.'
        )
    return config, why


def _describe_ids(
    template: str, counts: Counter, pixels: int, tables: Sequence, oddities: list[str]
) -> tuple[dict[str, Any] | None, str]:
    ids = sorted(each for each in counts if each >= 0)
    known = [each for each in ids if each != 255]
    config: dict[str, Any] = dict(type='ClassMap')
    end = f'; 255 is ignored, {100 * counts[255] / pixels:.1f} % of the pixels' if counts[255] else ''
    if '_labelIds.' in template and max(known, default=0) < 34:
        mapping = {str(old): new for new, old in enumerate(LABEL_IDS)}
        return config | dict(
            classes=list(CLASSES), palette=[list(each) for each in PALETTE], mapping=mapping
        ), 'ids of Cityscapes'
    if ('TrainIds.' in template or template == '{split}/semseg/{stem}.png') and max(known, default=0) < len(CLASSES):
        return config | dict(classes=list(CLASSES), palette=[list(each) for each in PALETTE]), f'train ids of Cityscapes{end}'
    if len(known) > 255:
        return None, f'{len(known)} different values are too many for classes'
    if len(ids) == 2 and ids[0] == 0:
        names = ['background', 'object']
        if ids[1] == 1:
            return config | dict(classes=names), 'a mask of 0 and 1'
        return config | dict(
            classes=names, mapping={'0': 0, str(ids[1]): 1}
        ), f'a mask of 0 and {ids[1]}; `mapping` makes {ids[1]} class 1'
    if len(known) < 2:
        oddities.append(f'{template}: every pixel is {known or 255} or ignored, so that there is nothing to tell it from.')
        known = known or [0]
    last = known[-1]
    names = {each: f'class_{each}' for each in range(last + 1)}
    origin = 'fill in the names of `classes`'
    # What is ignored otherwise needs no zero.
    is_zero_rare = counts[0] < RARE * pixels and len(known) > 1 + 2 * (known[0] == 0) and ids == known and min(counts) >= 0
    for path, rows in tables:
        numbers = [row[1] for row in rows]
        if None in numbers or len(set(numbers)) < len(rows):
            numbers = list(range(len(rows))) if len(rows) > last else list(range(1, len(rows) + 1))
        if set(known) - {0} <= set(numbers):
            names = dict(zip(numbers, (row[0] for row in rows), strict=True))
            is_zero_rare, origin = 0 not in names or bool(_IS_VOID.search(names[0])), f'names are from {path}'
            break
    start = f'{len(known)} ids up to {last}, {origin}{end}'
    ordered = [each for each in sorted(names) if each or not is_zero_rare]
    absent = [each for each in ordered if each not in counts]
    is_gapless = ordered == list(range(ordered[0], ordered[-1] + 1))
    if not is_gapless or len(absent) > 0.5 * len(ordered):
        used = [each for each in ordered if each in counts]
        oddities.append(f'{template}: ids have gaps, {_some(used)}; `mapping` numbers them.')
        return config | dict(classes=[names[each] for each in used], mapping={str(each): k for k, each in enumerate(used)}), start
    if absent:
        oddities.append(f'{template}: no pixel has the id {_some(absent)}.')
    if len(ordered) < 2:
        ordered, names = [0, 1], {0: 'class_0', 1: 'class_1'} | names
    config['classes'] = [names[each] for each in ordered]
    if ordered[0] == 1:
        share = f'{100 * counts[0] / pixels:.1f} % of the pixels' if counts[0] else 'no pixel'
        return config | dict(reduce_zero_label=True), (
            f'{start}; `reduce_zero_label`: 0 is {share} and taken as unlabelled. If it is a class, delete '
            'the key and name it first'
        )
    if known[0] == 0 and origin.startswith('fill'):
        start += f'; 0 is {100 * counts[0] / pixels:.0f} % of the pixels and taken as a class. If it is unlabelled, add '
        start += '"reduce_zero_label": true and leave out its name'
    return config, start


def _describe_colours(counts: Counter, pixels: int, tables: Sequence) -> tuple[dict[str, Any] | None, str]:
    config: dict[str, Any] = dict(type='ClassMap')
    for path, rows in tables:
        codes = {r << 16 | g << 8 | b: name for name, _, (r, g, b) in (row for row in rows if row[2])}
        covered = sum(counts[code] for code in codes)
        if len(codes) > 1 and covered > MANY * pixels:
            void = [code for code, name in codes.items() if _IS_VOID.search(name)]
            classes = [code for code in codes if code not in void]
            ignore = OTHERS if covered < pixels else [_colour(code) for code in void]
            config |= dict(classes=[codes[code] for code in classes], colours=[_colour(code) for code in classes])
            return config | (dict(ignore=ignore) if ignore else {}), f'RGB colours of {path}'
    kept = sorted(code for code, count in counts.items() if count >= NOISE * pixels)
    if len(kept) > 255:
        return None, f'{len(counts)} different colours are too many for classes'
    rest = len(counts) - len(kept)
    why = f'{len(kept)} RGB colours' + (f' and {rest} rare ones, which are ignored' if rest else '')
    is_mask = len(kept) == 2 and kept[0] == 0
    is_void = kept[0] == 0 and len(kept) > 3 and counts[0] < RARE * pixels
    classes = kept[1:] if is_void else kept
    names = ['background', 'object'] if is_mask else [f'class_{number}' for number in range(len(classes))]
    config |= dict(classes=names, colours=[_colour(code) for code in classes])
    if rest or is_void:
        config['ignore'] = OTHERS if rest else [[0, 0, 0]]
    if all(len(set(_colour(code))) == 1 for code in classes) and not is_mask:
        config['palette'] = make_palette(len(classes))
    if 0 in kept and not is_mask:
        share = f'black is {100 * counts[0] / pixels:.1f} % of the pixels and taken as '
        why += f'; {share}unlabelled. If it is a class, move it from `ignore` to `colours`' if is_void else ''
        why += f'; {share}a class. If it is unlabelled, move it from `colours` to `ignore`' if not is_void else ''
    return config, f'{why}; fill in the names of `classes`'


def _colour(code: int) -> list[int]:
    return [code >> 16, code >> 8 & 255, code & 255]


def _some(values: Sequence) -> str:
    return ', '.join(map(str, values[:8])) + (', ...' if len(values) > 8 else '')


def _describe_depth(root: Path, series: _Series, image: _Series, found: Sequence) -> tuple[dict[str, Any] | None, str]:
    """Guess the unit of depth from the type, the size and the pattern of the numbers."""
    template, dtype = series.template, found[0][0]
    numbers = np.concatenate([each.astype(np.float64) for _, each in found])
    known = numbers[np.isfinite(numbers) & (numbers > 0)]
    config: dict[str, Any] = dict(type='DepthMap', encoding='metres')
    if _IS_DISPARITY.search(template):
        camera = template.replace('disparity', 'camera').rpartition('.')[0] + '.json'
        split, stem = next(iter(series.files))
        if not (root / camera.replace('{split}', split).replace('{stem}', stem)).is_file():
            return None, 'disparities need a camera file of Cityscapes to become metres'
        config |= dict(encoding='disparity', camera=camera, depth_range=[3.5, 300.0], within_range=True)
        return config, 'disparities, and metres by the camera files of Cityscapes'
    if not len(known):
        return None, 'no pixel has a positive number'
    scale, why = 1.0, ''
    if dtype == np.uint16 and (known == 65535).mean() > 0.001:
        known, config['ignore'], why = known[known < 65535], [65535], '; 65535 is taken as unknown'
    middle = float(np.median(known)) if len(known) else 1.0
    if dtype == np.uint8:
        if image.template.endswith('rgb/{stem}.jpg') and template == '{split}/depth/{stem}.png':
            return dict(type='DepthMap'), '8-bit disparity codes of this package, which span `depth_range`'
        scale, why = 10 / 255, f'8-bit numbers, whose unit cannot be known: 255 is taken as 10 m. Set `scale`{why}'
    elif dtype == np.uint16:
        if (known % 8 == 0).mean() > 0.99 and len(np.unique(known)) > 16:
            scale, why = 0.000125, f'16-bit multiples of 8: millimetres shifted by 3 bits, as in SUN RGB-D{why}'
        elif 'kitti' in f'{root.name}/{template}'.lower() or 'proj_depth' in template or 'groundtruth' in template:
            scale, why = 1 / 256, f'16-bit numbers with names of KITTI: 1/256 m{why}'
        elif middle > 30_000 or 'freiburg' in f'{root.name}/{template}'.lower():
            scale, why = 0.0002, f'16-bit numbers up to {known.max():.0f}: 1/5000 m, as of TUM{why}'
        else:
            scale, why = 0.001, f'16-bit numbers, median {middle:.0f}, taken as millimetres{why}'
        why += f'. If metres are wrong, set `scale`: {UNITS}'
    elif middle > 300:
        scale, why = 0.001, f'numbers with a median of {middle:.0f}, taken as millimetres. If metres are wrong, set `scale`'
    else:
        why = f'numbers with a median of {middle:.2g}, taken as metres. If they are none, set `scale`'
    if scale != 1:
        config['scale'] = float(f'{scale:.8g}')
    low, high = (float(f'{each:.2g}') for each in np.percentile(known * scale, [0.5, 99.5]))
    config['depth_range'] = [max(low, 0.01), max(high, 2 * low, 0.02)]
    return config, why
