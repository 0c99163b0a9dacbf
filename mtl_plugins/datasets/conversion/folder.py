"""The folder of a converted data set: its splits, and what it says about itself."""

import csv
import io
import json
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mtl_plugins.errors import DataError
from mtl_plugins.labels.label_kind import LabelKind
from mtl_plugins.labels.presets import DESCRIPTION
from mtl_plugins.utils.data_files import parse_json, read_bytes, shorten
from mtl_plugins.utils.files import make_folder, remove_leftovers, replacing

ORIGINS = 'sources.csv'
MANIFEST = 'conversion.json'


class SplitFolders:
    """A split that grows in ``.incomplete_<split>``, its images last, and is renamed when it is complete.

    Labels of ``test`` are apart, below ``grader``. ``images`` holds ``rgb`` and ``labels`` a folder per label, wherever they are
    now.
    """

    def __init__(self, out: Path, name: str) -> None:
        self.name = name
        self._final = out / name
        self._final_labels = out / 'grader' / name if name == 'test' else self._final
        self.is_complete = self._final.is_dir()
        self.images = self._final if self.is_complete else self._incomplete(self._final)
        # Labels that lie apart are renamed before the images.
        self.labels = self._final_labels if self._final_labels.is_dir() else self._incomplete(self._final_labels)

    @staticmethod
    def _incomplete(path: Path) -> Path:
        return path.with_name(f'.incomplete_{path.name}')

    def image_path(self, index: int) -> Path:
        return self.images / 'rgb' / f'{index}.jpg'

    def label_path(self, label: str, index: int) -> Path:
        return self.labels / label / f'{index}.png'

    def label_paths(self, label: str) -> list[Path]:
        """The files of a label that there are."""
        folder = self.labels / label
        return [folder / name for name in os.listdir(folder) if not name.startswith('.')] if folder.is_dir() else []

    def count_images(self) -> int:
        return sum(not name.startswith('.') for name in os.listdir(self.images / 'rgb'))

    def remove_label(self, label: str) -> None:
        shutil.rmtree(self.labels / label, ignore_errors=True)

    def record_origins(self, stems: Sequence[str]) -> None:
        """Write which stem became which index, or compare with what is there."""
        table = io.StringIO()
        csv.writer(table, lineterminator='\n').writerows([('index', 'stem'), *enumerate(stems)])
        path = self.images / ORIGINS
        if path.is_file():
            if path.read_text(encoding='utf-8') != table.getvalue():
                raise DataError(
                    f"The source should have the samples that '{path}' names. Found others: it has changed since the conversion "
                    'began. Choose another folder, or remove this one.'
                )
            return
        make_folder(path.parent / 'rgb', DataError)
        with replacing(path, DataError) as temporary:
            temporary.write_text(table.getvalue(), encoding='utf-8')

    def complete(self) -> None:
        """Give the folders their final names."""
        if self._final_labels != self._final and self.labels != self._final_labels and self.labels.is_dir():
            self.labels.rename(self._final_labels)
            self.labels = self._final_labels
        self.images.rename(self._final)
        if self._final_labels == self._final:
            self.labels = self._final
        self.images, self.is_complete = self._final, True


def record_options(out: Path, options: Mapping[str, Any]) -> list[str]:
    """Write ``conversion.json``, or compare with the one that is there; splits may be added.

    Args:
        out: Folder of the converted data set.
        options: All that the files depend on; ``splits`` holds where each split comes from by the name that it gets.

    Returns:
        Names of the splits of all runs.
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
