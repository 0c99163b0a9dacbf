"""Where the files of a converted split are, before and after it is complete."""

import csv
import io
import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from mtl_plugins.errors import DataError
from mtl_plugins.utils.files import make_folder, replacing

ORIGINS = 'sources.csv'


class SplitFolders:
    """A split that grows in ``.incomplete_<split>``, its images last, and is renamed when it is complete.

    Labels of ``test`` lie apart, below ``grader``.

    Args:
        out: Folder of the converted data set.
        name: Name of the split.

    Attributes:
        images: Folder that holds ``rgb`` now.
        labels: Folder that holds a folder per label now.
        is_complete: Whether the split has its final name.
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
        """Write which stem became which index, or compare with what is there.

        Raises:
            DataError: If the split was begun with other samples.
        """
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
