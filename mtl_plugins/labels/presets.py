"""The labels of MiniScapes, and labels from configs and from a folder's own description."""

import inspect
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from mtl_plugins.errors import ArgumentError, ConfigError, CorruptFileError, SplitNotFoundError, UserError
from mtl_plugins.labels.boundary_map import BoundaryMap
from mtl_plugins.labels.cityscapes_classes import CLASSES, PALETTE
from mtl_plugins.labels.class_map import ClassMap
from mtl_plugins.labels.depth_map import DepthMap
from mtl_plugins.labels.label_kind import LabelKind
from mtl_plugins.labels.normals_from_depth import NormalsFromDepth
from mtl_plugins.labels.surface_normals import SurfaceNormals
from mtl_plugins.registry import LABELS
from mtl_plugins.utils.data_files import ANY, PLUGINS_ADVICE, find_registered, is_number, is_text, read_json, shorten

for _kind in (ClassMap, DepthMap, SurfaceNormals, NormalsFromDepth, BoundaryMap):
    LABELS.register_module(module=_kind)
DESCRIPTION, SAMPLES_PAGE = 'dataset.json', 'dataset_samples.png'
FORM = dict(
    labels={ANY: {}},
    missing_labels=[is_text],
    **dict.fromkeys(('image', 'stem', 'split_file'), is_text),
    splits={ANY: is_text},
    val_every=is_number,
)
# Of plain folders, as mmseg has them; images may be in subfolders.
FOLDERS_IMAGE, ANY_STEM = 'images/{split}/{stem}.jpg', '[^/]+(?:/[^/]+)*'
VAL_EVERY = 10

# Files: `<root>/<split>/<label>/<index>.png`.
MINISCAPES_LABELS: dict[str, dict] = dict(
    semseg=dict(type='ClassMap', classes=CLASSES, palette=[list(colour) for colour in PALETTE]),
    depth=dict(type='DepthMap', encoding='code'),
    normals=dict(type='SurfaceNormals'),
    boundary=dict(type='BoundaryMap'),
)
# Those that a data set reads unless it is told otherwise.
MINISCAPES_TASKS = ('semseg', 'depth')


def build_label(name: str, config: Mapping[str, Any]) -> LabelKind:
    """The kind that a config describes; kinds of other packages are found in the registry ``LABELS``.

    The config may come from a file that is data: a type is the name of a registered class, never the path of an object. A wrong
    config is a `ConfigError`.
    """
    if not isinstance(config, Mapping):
        raise ConfigError(f'The label `{name}` should be described by its `type` and arguments. Found {shorten(config)}.')
    arguments = {str(key): value for key, value in config.items()}
    kind = arguments.pop('type', None)
    # Without the search for plug-ins, which imports torch, for the sake of graders.
    cls = kind if inspect.isclass(kind) else LABELS.module_dict.get(str(kind)) or find_registered(kind, LABELS)
    if cls is None:
        raise ConfigError(
            f'`type` of the label {name} should be one of {sorted(LABELS.module_dict)}. Found {shorten(kind)}. {PLUGINS_ADVICE}'
        )
    try:
        return cls(name=name, **arguments)
    except Exception as error:
        if isinstance(error, UserError) and not isinstance(error, ArgumentError):
            raise
        # A broken description fails deep in a kind, also in those of plug-ins, with errors of any class.
        raise ConfigError(f'The label `{name}` cannot be built: {shorten(error, 400)}') from error


def build_labels(configs: Mapping[str, Mapping[str, Any]], names: Iterable[str] | None = None) -> dict[str, LabelKind]:
    """Return the kinds of the named labels, of all by default; raise `ConfigError` if a name or a config is wrong."""
    names = list(configs if names is None else names)
    unknown = [name for name in names if name not in configs]
    if unknown:
        raise ConfigError(f'The data have the labels {list(configs)}. Found {unknown[0]!r} where one of them should be.')
    return {name: build_label(name, configs[name]) for name in names}


def read_description(root: str | Path) -> dict:
    """The content of ``dataset.json`` in a data root, ``{}`` without one; something else is a `CorruptFileError`.

    ``labels`` holds a config per label, which replaces MiniScapes' own: other classes, another range of depth. ``missing_labels``
    may list the names of those that samples may lack. ``image``, ``stem`` and ``split_file`` describe another layout, ``splits``
    what the splits are called there, and ``val_every`` takes the validation images from those of training.
    """
    path = Path(root) / DESCRIPTION
    if not os.path.lexists(path):
        return {}
    description = read_json(path, 'description', FORM)
    if description.get('labels') is None:
        raise CorruptFileError(f"'{path}' has no `labels`: it should be a JSON object in which `labels` is an object of objects.")
    return description


def miniscapes_labels(folder: str | Path | None = None) -> dict[str, dict]:
    """Configs of MiniScapes' labels, or those that ``folder`` or one of the two above it describes in ``dataset.json``."""
    description = _find_description(folder)
    return dict(description['labels']) if description else MINISCAPES_LABELS


def check_stem(stem: str, path: str | Path) -> None:
    """Refuse a pattern of the names of images, from the file ``path``, that is broken or could take longer than a moment.

    A match takes at most the third power of the length of a name: no group is repeated, at most three characters are, and there
    are at most eight alternatives and options.
    """
    try:
        re.compile(stem)
    except (re.error, OverflowError, RecursionError) as error:
        raise ConfigError(f"`stem` in '{path}' should be a regular expression. Found {shorten(stem)} ({error}).") from error
    # Without escapes, classes of characters, and the beginnings of groups without a name.
    bare = re.sub(r'\\.|\[\^?\]?(?:\\.|[^\]\\])*\]', 'x', stem)
    bare = re.sub(r'\(\?<?[:=!]', '(', bare)
    repeated, optional = re.findall(r'[*+]|\{\d*,', bare), re.findall(r'[?|]', bare)
    if stem != ANY_STEM and (re.search(r'\)[*+{]|\(\?', bare) or len(repeated) > 3 or len(optional) > 8):
        raise ConfigError(
            f"`stem` in '{path}' should be a simple regular expression, such as frame-[0-9]+, with at most three repetitions "
            f'and none of a group. Found {shorten(stem)}. A `split_file` can list any names.'
        )


def described_layout(root: str | Path, split: str, description: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Arguments of `list_split` for a split of a data root, by its description, or the one that is given; without one ``{}``.

    Without ``val_every``, every tenth training image is for validation where another layout has no folder or file for ``val``.
    """
    is_given = description is not None
    description = _find_description(root) if description is None else description
    if not is_given and not Path(root, DESCRIPTION).is_file():
        # One in a folder above describes what was made of the data there.
        return dict(missing_labels=tuple(description['missing_labels'])) if description.get('missing_labels') else {}
    layout = {key: description[key] for key in ('image', 'stem', 'split_file') if description.get(key)}
    if 'image' in layout and 'split_file' not in layout:
        layout.setdefault('stem', ANY_STEM)
    check_stem(layout.get('stem', ''), DESCRIPTION)
    every, splits = description.get('val_every'), description.get('splits') or {}
    if every is not None and (every != int(every) or every < 2):
        raise ConfigError(f"`val_every` in '{DESCRIPTION}' should be a whole number from 2. Found {every}.")
    template = layout.get('split_file') or layout.get('image') or '{split}/rgb'
    if '{split}' not in template and split not in ('train', 'val'):
        raise SplitNotFoundError(f"The data root '{root}' has no split '{split}': `image` in '{DESCRIPTION}' has no {{split}}.")
    if layout and every is None and 'val' not in splits:
        place = '/'.join(template.split('/')[: template[: template.find('{split}')].count('/') + 1])
        train = place.replace('{split}', splits.get('train', 'train'))
        is_apart = '{split}' in template and Path(root, place.replace('{split}', 'val')).exists()
        every = VAL_EVERY if not is_apart and ('{split}' not in template or Path(root, train).exists()) else None
    if every is not None and split in ('train', 'val'):
        layout.update(val_every=int(every), source=splits.get('train', 'train'))
    elif split in splits:
        layout['source'] = splits[split]
    if description.get('missing_labels'):
        layout['missing_labels'] = tuple(description['missing_labels'])
    return layout


def _find_description(folder: str | Path | None) -> dict:
    if folder is not None:
        absolute = Path(folder).absolute()
        for place in (absolute, *absolute.parents[:2]):
            description = read_description(place)
            if description:
                return _fill_in_layout(place, description)
    return {}


def _fill_in_layout(root: Path, description: dict) -> dict:
    """Add the layout of mmseg, ``images/<split>`` and ``annotations/<split>``, if the folders are so and nothing else is said."""
    if description.get('image') or not (root / 'images').is_dir() or any(root.glob('*/rgb')):
        return description
    paths = {name: ('annotations' if name == 'semseg' else name) + '/{split}/{stem}.png' for name in description['labels']}
    labels = {name: dict(path=paths[name]) | dict(config or {}) for name, config in description['labels'].items()}
    return dict(description, labels=labels, image=FOLDERS_IMAGE)
