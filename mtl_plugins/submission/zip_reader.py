"""Reads a submission archive of unknown origin, in memory and within limits. Nothing is extracted to disk."""

import re
import stat
import struct
import zipfile
import zlib
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import BinaryIO

from mtl_plugins.errors import SubmissionError

_STEM = r'[A-Za-z0-9_-][A-Za-z0-9_.-]{0,127}'
# What the archive may hold beside the predictions; the grader never reads it.
_EXTRA_NAME = re.compile(rf'source\.zip|metrics\.csv|logs/{_STEM}\.log|checkpoints/[^/]+')

_END_SIGNATURE, _ZIP64_SIGNATURE = b'PK\x05\x06', b'PK\x06\x07'
_END_SIZE, _ZIP64_LOCATOR_SIZE, _MAX_COMMENT = 22, 20, 65535
# zipfile keeps the whole directory in memory, about ten times its size. 8 MiB are 100,000 predictions.
_MAX_DIRECTORY_BYTES = 8 * 2**20
_COMPRESSION = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_ENCRYPTED = 0x1


class SubmissionZip:
    """The predictions of an archive whose names, types and sizes have been checked; a context manager.

    Args:
        path: The archive.
        names: The labels that it may hold predictions for.

    Attributes:
        predictions: For each task that the archive holds, the entries by stem.

    Raises:
        SubmissionError: If the file is no zip archive, or an entry has a name outside the format (absolute paths and
            ``..`` included), occurs twice, is a link, is encrypted, or uses another compression than deflate.
    """

    def __init__(self, path: str | Path, names: Collection[str]) -> None:
        self.path = Path(path)
        self.names = tuple(names)
        either = '|'.join(map(re.escape, names))
        self._prediction_name = re.compile(rf'predictions/({either})/({_STEM})\.png')
        self._folder_name = re.compile(rf'predictions/|predictions/({either})/|logs/|checkpoints/')
        try:
            file = open(self.path, 'rb')
        except OSError as error:
            raise SubmissionError(f'Cannot open the archive {path}: {error.strerror}.') from error
        try:
            _check_directory_size(file, self.path)
            self._zip = zipfile.ZipFile(file)
            self.predictions = self._list_predictions()
        except (zipfile.BadZipFile, EOFError, NotImplementedError, UnicodeDecodeError, ValueError, struct.error) as error:
            file.close()
            raise SubmissionError(f'{path} is not a readable zip archive: {error}.') from error
        except BaseException:
            file.close()
            raise
        self._file = file

    def __enter__(self) -> 'SubmissionZip':
        return self

    def __exit__(self, *error: object) -> None:
        self._zip.close()
        self._file.close()

    def read(self, task: str, stem: str, max_bytes: int) -> bytes:
        """Return the content of one prediction of at most ``max_bytes``. Safe to call from several threads."""
        entry = self.predictions[task][stem]
        if entry.file_size > max_bytes:
            raise SubmissionError(
                f'{_show(entry.filename)} should have at most {max_bytes} bytes uncompressed. Found {entry.file_size}.'
            )
        try:
            with self._zip.open(entry) as file:
                # zipfile stops at the declared size, which was checked, whatever the compressed data expands to.
                data = file.read()
        except (zipfile.BadZipFile, EOFError, NotImplementedError, zlib.error, struct.error, OSError, ValueError) as error:
            raise SubmissionError(f'{_show(entry.filename)} is damaged: {error}.') from error
        if len(data) != entry.file_size:
            raise SubmissionError(f'{_show(entry.filename)} should have {entry.file_size} bytes. Found {len(data)}.')
        return data

    def _list_predictions(self) -> dict[str, dict[str, zipfile.ZipInfo]]:
        names: set[str] = set()
        predictions: dict[str, dict[str, zipfile.ZipInfo]] = {}
        for entry in self._zip.infolist():
            _check_entry(entry, (self._prediction_name, _EXTRA_NAME, self._folder_name))
            if entry.filename in names:
                raise SubmissionError(f'{_show(entry.filename)} occurs twice in the archive.')
            names.add(entry.filename)
            match = self._prediction_name.fullmatch(entry.filename)
            if match:
                predictions.setdefault(match[1], {})[match[2]] = entry
        if not predictions:
            raise SubmissionError(
                f'The archive has no predictions: it should hold predictions/{" or predictions/".join(self.names)}.'
            )
        return predictions


def _check_entry(entry: zipfile.ZipInfo, patterns: Sequence[re.Pattern]) -> None:
    name = entry.orig_filename
    if name != entry.filename or name.startswith(('/', '\\')) or '..' in re.split(r'[/\\]', name) or ':' in name or '\\' in name:
        raise SubmissionError(f'{_show(name)} is an unsafe name: entries should be relative paths inside the archive.')
    kind = stat.S_IFMT(entry.external_attr >> 16)
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        raise SubmissionError(f'{_show(name)} should be a regular file. Found a link or device.')
    if not any(pattern.fullmatch(name) for pattern in patterns):
        raise SubmissionError(f'{_show(name)} does not belong in a submission archive.')
    if entry.flag_bits & _ENCRYPTED:
        raise SubmissionError(f'{_show(name)} is encrypted.')
    if entry.compress_type not in _COMPRESSION:
        raise SubmissionError(f'{_show(name)} should be stored or deflated. Found compression method {entry.compress_type}.')


def _check_directory_size(file: BinaryIO, path: Path) -> None:
    """Read the end record itself, since zipfile loads a directory of any size."""
    size = file.seek(0, 2)
    start = max(0, size - _END_SIZE - _MAX_COMMENT - _ZIP64_LOCATOR_SIZE)
    file.seek(start)
    tail = file.read()
    # zipfile would also take the end record of a zip stored inside a truncated one: the record must end where the file ends.
    at = tail.rfind(_END_SIGNATURE)
    if at < 0 or len(tail) - at < _END_SIZE or len(tail) - at != _END_SIZE + struct.unpack_from('<H', tail, at + 20)[0]:
        raise SubmissionError(f'{path} is not a zip archive, or is truncated.')
    (directory_bytes,) = struct.unpack_from('<I', tail, at + 12)
    if tail[max(0, at - _ZIP64_LOCATOR_SIZE) : at].startswith(_ZIP64_SIGNATURE) or directory_bytes > _MAX_DIRECTORY_BYTES:
        raise SubmissionError(f'{path} has too many entries or is larger than 4 GiB.')


def _show(name: str) -> str:
    """A name from the archive, made harmless for a terminal and short."""
    return ascii(name if len(name) <= 100 else f'{name[:100]}...')
