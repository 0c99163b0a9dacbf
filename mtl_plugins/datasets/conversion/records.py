"""What a converted folder says about itself: the options it was made with, and its labels."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mtl_plugins.datasets.conversion.split_folders import SplitFolders
from mtl_plugins.errors import DataError
from mtl_plugins.labels.label_kind import LabelKind
from mtl_plugins.labels.presets import DESCRIPTION
from mtl_plugins.utils.data_files import parse_json, read_bytes, shorten
from mtl_plugins.utils.files import make_folder, remove_leftovers, replacing

MANIFEST = 'conversion.json'


def record_options(out: Path, options: Mapping[str, Any]) -> list[str]:
    """Write ``conversion.json``, or compare with the one that is there; splits may be added.

    Args:
        out: Folder of the converted data set.
        options: All that the files depend on; ``splits`` holds where each split comes from by the name that it gets.

    Returns:
        Names of the splits of all runs.

    Raises:
        DataError: If the folder holds something else or was begun with other options.
    """
    wanted = json.loads(json.dumps(options))
    path = out / MANIFEST
    # A run that was killed while it wrote the first file has begun nothing.
    remove_leftovers(out)
    if path.is_file():
        try:
            found = parse_json(read_bytes(path))
            begun = dict(found['splits'])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise DataError(f"'{path}' is damaged ({type(error).__name__}: {shorten(error)}); choose a new folder.") from error
        for key in [*wanted, *(found.keys() - wanted.keys())]:
            if key != 'splits' and found.get(key) != wanted.get(key):
                raise _other_option(out, key, found.get(key), wanted.get(key))
        for name, split in wanted['splits'].items():
            if begun.get(name, split) != split:
                raise _other_option(out, f'splits.{name}', begun[name], split)
        wanted['splits'] = begun | wanted['splits']
    elif out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise DataError(f"'{out}' is neither an empty folder nor one in which a conversion was begun; choose a new one.")
    make_folder(out, DataError)
    _write_json(path, wanted)
    return list(wanted['splits'])


def _other_option(out: Path, key: str, before: Any, now: Any) -> DataError:
    return DataError(
        f"The conversion into '{out}' should go on with the options it was begun with: `{key}` = {json.dumps(before)}. "
        f'Found {json.dumps(now)}. Choose another folder, or remove this one.'
    )


def describe_labels(out: Path, splits: Mapping[str, SplitFolders], labels: Mapping[str, LabelKind]) -> None:
    """Write ``dataset.json`` for these splits: the labels that there are, and which of them samples lack."""
    counts = {name: [len(split.label_paths(name)) for split in splits.values()] for name in labels}
    # Nothing but a test split without labels: what a model may predict.
    names = [name for name in labels if any(counts[name])] or list(labels)
    # The labels of the test split may always be missing.
    needed = [0 if name == 'test' else split.count_images() for name, split in splits.items()]
    missing = [name for name in names if any(map(int.__lt__, counts[name], needed))]
    description: dict[str, Any] = dict(labels={name: labels[name].plain_config() for name in names})
    _write_json(out / DESCRIPTION, description | (dict(missing_labels=missing) if missing else {}))


def _write_json(path: Path, content: Any) -> None:
    with replacing(path, DataError) as temporary:
        temporary.write_text(json.dumps(content, indent=2) + '\n', encoding='utf-8')
