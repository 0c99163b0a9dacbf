"""The submission archive: checked predictions, the code that made them, and the metrics of the run."""

import io
import os
import re
import secrets
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import mtl_plugins
from mtl_plugins.errors import ArgumentError, SubmissionError
from mtl_plugins.labels.label_kind import LabelKind
from mtl_plugins.records.metrics_file import FILE_NAME as METRICS_FILE
from mtl_plugins.records.metrics_file import format_metrics
from mtl_plugins.submission.prediction_folder import PREDICTIONS, validate_predictions
from mtl_plugins.utils.files import make_folder, replacing

_NOT_ALLOWED = re.compile(r'[^A-Za-z0-9._-]+')


def name_of_file(path: str | Path) -> str:
    """The stem of a file as the name of a run: what a run name may not hold becomes a hyphen."""
    return _NOT_ALLOWED.sub('-', Path(path).stem).strip('-') or 'run'


def make_run_name(team: int, name: str) -> str:
    """Return ``T<team, two digits>_<MMDD-HHMM>_<name>_<5 random hex digits>``, for example ``T07_0314-1559_joint_a1b2c``.

    Raises:
        ArgumentError: If ``team`` is not in 0..99, or ``name`` holds more than letters, digits, dots, underscores and hyphens.
    """
    if not isinstance(team, int) or not 0 <= team <= 99:
        raise ArgumentError(f'`team` should be 0..99. Found {team!r}.')
    if not name or _NOT_ALLOWED.search(name):
        raise ArgumentError(f'`name` should consist of letters, digits, ".", "_" and "-". Found {name!r}.')
    return f'T{team:02d}_{datetime.now():%m%d-%H%M}_{name}_{secrets.token_hex(3)[:5]}'


_SOURCE_FOLDERS = ('mtl_plugins', 'tools', 'configs')
_SOURCE_FILES = ('setup.py', 'pyproject.toml', 'README.md')
_SOURCE_SUFFIXES = ('.py', '.sh', '.md', '.toml', '.txt', '.yaml')
# A fixed time makes equal content an equal archive.
_ZIP_TIME = (1980, 1, 1, 0, 0, 0)


def build_archive(
    archive: str | Path,
    out_dir: str | Path,
    labels: Mapping[str, LabelKind],
    image_sizes: Mapping[str, tuple[int, int]],
    command: str,
    config_text: str,
    metrics: Sequence[Mapping[str, Any]],
    checkpoint: str | Path | None = None,
) -> Path:
    """Check the predictions and pack them with source and metrics into ``archive``, which appears only when complete.

    The archive holds ``predictions/<label>/<stem>.png``, ``source.zip`` (package, tools, configs, and ``cmd.txt``: the command
    and the resolved config), ``metrics.csv`` and, if given, ``checkpoints/<file name>``.

    Args:
        archive: The zip file to write; an earlier one is replaced.
        out_dir: Folder that a ``SubmissionWriter`` wrote to.
        labels: The kinds of what was predicted, by name.
        image_sizes: Height and width of each test image, see :func:`find_image_sizes`.
        command: The command line of the run.
        config_text: The resolved config.
        metrics: A row per validation, see :mod:`~mtl_plugins.records.metrics_file`.
        checkpoint: A checkpoint to include.

    Raises:
        InvalidPredictionError: If the predictions are not complete and valid.
        SubmissionError: If a file cannot be read or the archive cannot be written; an earlier archive is then unchanged.
    """
    archive, out_dir = Path(archive), Path(out_dir)
    validate_predictions(out_dir, labels, image_sizes)
    if checkpoint is not None and not Path(checkpoint).is_file():
        raise SubmissionError(f'The checkpoint {checkpoint} does not exist.')
    make_folder(archive.parent, SubmissionError)
    with replacing(archive, SubmissionError) as temporary, open(temporary, 'wb') as file:
        with zipfile.ZipFile(file, 'w', zipfile.ZIP_DEFLATED) as target:
            _write_text(target, METRICS_FILE, format_metrics(metrics))
            _write_bytes(target, 'source.zip', _source_zip(f'{command}\n\n{config_text}'), zipfile.ZIP_STORED)
            for task in labels:
                for stem in image_sizes:
                    name = f'{PREDICTIONS}/{task}/{stem}.png'
                    _write_bytes(target, name, (out_dir / name).read_bytes(), zipfile.ZIP_STORED)
            if checkpoint is not None:
                # Weights do not compress, and may be larger than memory allows to read at once.
                target.write(checkpoint, f'checkpoints/{Path(checkpoint).name}', zipfile.ZIP_STORED)
        file.flush()
        os.fsync(file.fileno())
    return archive


def _source_zip(command_text: str) -> bytes:
    root, content = Path(mtl_plugins.__file__).parents[1], io.BytesIO()
    with zipfile.ZipFile(content, 'w', zipfile.ZIP_DEFLATED) as target:
        _write_text(target, 'cmd.txt', command_text)
        for path in _source_files(root):
            _write_bytes(target, path.relative_to(root).as_posix(), path.read_bytes(), zipfile.ZIP_DEFLATED)
    return content.getvalue()


def _source_files(root: Path) -> Iterator[Path]:
    """The files of the project; installed without a checkout, only the package is there."""
    yield from (root / name for name in _SOURCE_FILES if (root / name).is_file())
    for folder in _SOURCE_FOLDERS:
        for path in sorted((root / folder).rglob('*')):
            if path.suffix in _SOURCE_SUFFIXES and path.is_file():
                yield path


def _write_text(target: zipfile.ZipFile, name: str, text: str) -> None:
    _write_bytes(target, name, text.encode(), zipfile.ZIP_DEFLATED)


def _write_bytes(target: zipfile.ZipFile, name: str, data: bytes, compression: int) -> None:
    info = zipfile.ZipInfo(name, _ZIP_TIME)
    info.compress_type = compression
    info.external_attr = 0o100644 << 16
    target.writestr(info, data)
