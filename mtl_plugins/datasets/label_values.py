"""Guesses at the meaning of values in label files: classes by id or colour, and the unit of depth."""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mtl_plugins.errors import UserError
from mtl_plugins.labels.cityscapes_classes import CLASSES, LABEL_IDS, PALETTE
from mtl_plugins.labels.class_map import OTHERS, make_palette
from mtl_plugins.labels.decoding import read_ids, read_numbers, read_rgb
from mtl_plugins.labels.label_kind import MANY
from mtl_plugins.utils.data_files import read_json

_IS_TABLE = re.compile(r'class|label|colou?r|categor|names|legend|objectinfo', re.I)
_IS_VOID = re.compile(r'void|unlabel|unknown|ignore', re.I)
# Colours that are rarer than NOISE among the pixels are edges of drawings; a zero that is rarer than RARE means unlabelled.
NOISE, RARE = 1e-4, 0.1
UNITS = '0.01 for centimetres, 0.00390625 (1/256) for KITTI, 0.0002 (1/5000) for TUM'
# A config of a label, or None where there can be none; and the reason.
Described = tuple[dict[str, Any] | None, str]
# A name, an id and a colour.
Row = tuple[str, int | None, tuple[int, ...] | None]


def read_tables(root: Path, paths: Sequence[str]) -> Iterator[tuple[str, list[Row]]]:
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


def read_values(path: Path, kind: str) -> Any:
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


def describe_classes(
    template: str, kind: str, found: Sequence[Counter], tables: Sequence, is_sampled: bool, oddities: list[str]
) -> Described:
    """Guess the classes of ids or of colours.

    Args:
        template: Path of the files, for messages and names that say what ids mean.
        kind: ``'ids'`` or ``'colours'``.
        found: How often each value occurs, in each file.
        tables: Of :func:`read_tables`.
        is_sampled: There are more files, in which other values may occur.
        oddities: Gets a sentence on each thing that is odd.
    """
    counts = Counter()
    for each in found:
        counts.update(each)
    pixels = sum(counts.values())
    if kind == 'colours':
        config, why = _describe_colours(counts, pixels, tables)
    else:
        config, why = _describe_ids(template, counts, pixels, tables, oddities)
    if config is not None and is_sampled:
        if not {'mapping', 'reduce_zero_label'} & config.keys():
            config['ignore'] = OTHERS
        oddities.append(
            f'{template}: {len(found)} files are counted. Values in other files only are ignored; `--samples` counts more.'
        )
    return config, why


def _describe_ids(template: str, counts: Counter, pixels: int, tables: Sequence, oddities: list[str]) -> Described:
    ids = sorted(each for each in counts if each >= 0)
    known = [each for each in ids if each != 255]
    config: dict[str, Any] = dict(type='ClassMap')
    end = f'; 255 is ignored, {100 * counts[255] / pixels:.1f} % of the pixels' if counts[255] else ''
    streets = config | dict(classes=list(CLASSES), palette=[list(each) for each in PALETTE])
    if '_labelIds.' in template and max(known, default=0) < 34:
        return streets | dict(mapping={str(old): new for new, old in enumerate(LABEL_IDS)}), 'ids of Cityscapes'
    if ('TrainIds.' in template or template == '{split}/semseg/{stem}.png') and max(known, default=0) < len(CLASSES):
        return streets, f'train ids of Cityscapes{end}'
    if len(known) > 255:
        return None, f'{len(known)} different values are too many for classes'
    if len(ids) == 2 and ids[0] == 0:
        config['classes'] = ['background', 'object']
        if ids[1] == 1:
            return config, 'a mask of 0 and 1'
        return config | dict(mapping={'0': 0, str(ids[1]): 1}), f'a mask of 0 and {ids[1]}; `mapping` makes {ids[1]} class 1'
    if len(known) < 2:
        return None, f'the only id is {known[0] if known else 255}, so that there is nothing to tell apart'
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
    if not is_gapless or len(absent) > 0.5 * len(ordered) or len(ordered) > 255:
        used = ordered if origin.startswith('names') else [each for each in ordered if each in counts]
        oddities.append(f'{template}: ids have gaps, {_some(used)}; `mapping` numbers them.')
        return config | dict(classes=[names[each] for each in used], mapping={str(each): k for k, each in enumerate(used)}), start
    if absent:
        oddities.append(f'{template}: no pixel has the id {_some(absent)}.')
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


def _describe_colours(counts: Counter, pixels: int, tables: Sequence) -> Described:
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
    if not 1 < len(kept) < 256:
        return None, f'{len(kept)} different colours cannot be classes'
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


def describe_depth(root: Path, template: str, sample: tuple[str, str], image: str, found: Sequence) -> Described:
    """Guess the unit of depth from the type, the size and the pattern of the numbers."""
    dtype = found[0][0]
    numbers = np.concatenate([each.astype(np.float64) for _, each in found])
    known = numbers[np.isfinite(numbers) & (numbers > 0)]
    config: dict[str, Any] = dict(type='DepthMap', encoding='metres')
    if 'dispar' in template.lower():
        camera = template.replace('disparity', 'camera').rpartition('.')[0] + '.json'
        if not (root / camera.replace('{split}', sample[0]).replace('{stem}', sample[1])).is_file():
            return None, 'disparities need a camera file of Cityscapes to become metres'
        config |= dict(encoding='disparity', camera=camera, depth_range=[3.5, 300.0], within_range=True)
        return config, 'disparities, and metres by the camera files of Cityscapes'
    scale, why = 1.0, ''
    if dtype == np.uint16 and (known == 65535).sum() > 0.001 * len(known):
        known, config['ignore'], why = known[known < 65535], [65535], '; 65535 is taken as unknown'
    if not len(known):
        return None, 'no pixel has a known depth'
    middle = float(np.median(known))
    if dtype == np.uint8:
        if image == '{split}/rgb/{stem}.jpg' and template == '{split}/depth/{stem}.png':
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
