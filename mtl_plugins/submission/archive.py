"""The submission archive: checked predictions, the code that made them, and the metrics of the run."""

import io
import os
import re
import secrets
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path
from typing import Any

from PIL import Image

import mtl_plugins
from mtl_plugins.errors import ArgumentError, InvalidPredictionError, SubmissionError
from mtl_plugins.labels.decoding import QUARTER_TURNS, read_orientation
from mtl_plugins.labels.label_kind import LabelKind
from mtl_plugins.records.metrics_file import FILE_NAME as METRICS_FILE
from mtl_plugins.records.metrics_file import format_metrics
from mtl_plugins.utils.files import TEMPORARY_SUFFIX, make_folder, natural_order, replacing

PREDICTIONS = 'predictions'
NOT_ALLOWED = re.compile(r'[^A-Za-z0-9._-]+')


def name_of_file(path: str | Path) -> str:
    """The stem of a file as the name of a run: what a run name may not hold becomes a hyphen."""
    return NOT_ALLOWED.sub('-', Path(path).stem).strip('-') or 'run'


def make_run_name(team: int, name: str, prefix: str = 'T') -> str:
    """Return ``<prefix><team, two digits>_<MMDD-HHMM>_<name>_<5 random hex digits>``, such as ``T07_0314-1559_joint_a1b2c``.

    Raises:
        ArgumentError: If ``team`` is not in 0..99, ``name`` holds more than letters, digits, dots, underscores and hyphens, or
            ``prefix`` is not one or more letters.
    """
    if not isinstance(prefix, str) or not re.fullmatch('[A-Za-z]+', prefix):
        raise ArgumentError(f"`team_prefix` should consist of letters, such as 'T' or 'G'. Found {prefix!r}.")
    if not isinstance(team, int) or not 0 <= team <= 99:
        raise ArgumentError(f'`team` should be 0..99. Found {team!r}.')
    if not name or NOT_ALLOWED.search(name):
        raise ArgumentError(f'`name` should consist of letters, digits, ".", "_" and "-". Found {name!r}.')
    return f'{prefix}{team:02d}_{datetime.now():%m%d-%H%M}_{name}_{secrets.token_hex(3)[:5]}'


def find_image_sizes(paths: Iterable[str | Path]) -> dict[str, tuple[int, int]]:
    """Height and width of each upright image by its stem, from the headers of the files, in the given order.

    Raises:
        SubmissionError: If there is no image, one cannot be read, or two have the same name.
    """
    sizes = {}
    for path in map(Path, paths):
        try:
            with Image.open(path) as image:
                size = (image.height, image.width)
                # Predictions are of the upright image.
                if 'exif' in image.info and read_orientation(str(path)) in QUARTER_TURNS:
                    size = size[::-1]
        except OSError as error:
            raise SubmissionError(f'Cannot read the image {path}: {error}.') from error
        if path.stem in sizes:
            raise SubmissionError(f'Test images should have different names. Found {path.stem} twice, last in {path}.')
        sizes[path.stem] = size
    if not sizes:
        raise SubmissionError('There are no test images to pack.')
    return sizes


def find_logs(run: Path) -> list[Path]:
    """Return the texts that a training logged in its work dir, one for each start; those of a test are left out."""
    folders = [path.parents[1] for path in sorted(run.glob('*/vis_data/scalars.json'))]
    return [path for path in (folder / f'{folder.name}.log' for folder in folders) if path.is_file() and not path.is_symlink()]


def validate_predictions(
    out_dir: str | Path, labels: Mapping[str, LabelKind], image_sizes: Mapping[str, tuple[int, int]]
) -> None:
    """Check ``<out_dir>/predictions``: one file per image and task, of the right type, size and values, and nothing else."""
    for name, kind in labels.items():
        folder = Path(out_dir) / PREDICTIONS / name
        found = {path.name for path in folder.glob('*') if not path.name.endswith(TEMPORARY_SUFFIX)}
        check_names(f'{folder}', found, {f'{stem}.png' for stem in image_sizes})

        def check(item: tuple[str, tuple[int, int]], kind: LabelKind = kind, folder: Path = folder) -> None:
            path = folder / f'{item[0]}.png'
            try:
                kind.from_png(path.read_bytes(), item[1])
            except InvalidPredictionError as error:
                raise InvalidPredictionError(f'{path} {error}') from error

        with ThreadPoolExecutor(2) as pool:
            list(pool.map(check, image_sizes.items()))


def check_names(place: str, found: set[str], expected: set[str]) -> None:
    """Raise `InvalidPredictionError` if file names are missing or superfluous."""
    for problem, names in (('is missing', expected - found), ('is not the prediction of a test image', found - expected)):
        if names:
            first = min(names, key=lambda name: natural_order(name.removesuffix('.png')))
            others = f' (and {len(names) - 1} more)' if len(names) > 1 else ''
            raise InvalidPredictionError(f'{place}: {first}{others} {problem}.')


_SOURCE_FOLDERS = ('mtl_plugins', 'tools', 'configs')
_SOURCE_FILES = ('setup.py', 'pyproject.toml', 'README.md', 'LICENSE')
_SOURCE_SUFFIXES = ('.py', '.sh', '.md', '.toml', '.txt', '.yaml', '.html', '.css', '.js', '.ipynb')
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
    logs: Sequence[Path] = (),
) -> Path:
    """Check the predictions and pack them with source and metrics into ``archive``, which appears only when complete.

    The archive holds ``predictions/<label>/<stem>.png``, ``source.zip`` (package, tools, configs, and ``cmd.txt``: the command
    and the resolved config), ``metrics.csv`` and, if given, ``logs/<file name>`` and ``checkpoints/<file name>``.

    Args:
        archive: The zip file to write; an earlier one is replaced.
        out_dir: Folder that a ``SubmissionWriter`` wrote to.
        labels: The kinds of what was predicted, by name.
        image_sizes: Height and width of each test image, see :func:`find_image_sizes`.
        command: The command line of the run.
        config_text: The resolved config.
        metrics: A row per validation, see :mod:`~mtl_plugins.records.metrics_file`.
        checkpoint: A checkpoint to include.
        logs: Logs of the training, one for each start.

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
            source = zip_files({'cmd.txt': f'{command}\n\n{config_text}'.encode(), **read_source()})
            _write_bytes(target, 'source.zip', source, zipfile.ZIP_STORED)
            for task in labels:
                for stem in image_sizes:
                    name = f'{PREDICTIONS}/{task}/{stem}.png'
                    _write_bytes(target, name, (out_dir / name).read_bytes(), zipfile.ZIP_STORED)
            for log in logs:
                _write_bytes(target, f'logs/{log.name}', log.read_bytes(), zipfile.ZIP_DEFLATED)
            if checkpoint is not None:
                # Weights do not compress, and may be larger than memory allows to read at once.
                target.write(checkpoint, f'checkpoints/{Path(checkpoint).name}', zipfile.ZIP_STORED)
        file.flush()
        os.fsync(file.fileno())
    return archive


def read_source(more: Iterable[Path] = ()) -> dict[str, bytes]:
    """Return the files of the project and ``more`` files and folders of code, by their names in an archive.

    Of a folder only text with the suffix of code is taken, so that neither data nor keys come along. Installed without a
    checkout, only the package is there.
    """
    root = Path(mtl_plugins.__file__).resolve().parents[1]
    files = {}
    # Next to an installed package are others.
    names = (*_SOURCE_FILES, *_SOURCE_FOLDERS) if (root / 'pyproject.toml').is_file() else _SOURCE_FOLDERS[:1]
    for place in [*(root / name for name in names), *(path.resolve() for path in more)]:
        base = root if place.is_relative_to(root) else place.parent
        for path in sorted(place.rglob('*')) if place.is_dir() else [place]:
            hidden = any(part.startswith('.') for part in path.relative_to(place).parts)
            if path.is_file() and not hidden and (path == place or path.suffix in _SOURCE_SUFFIXES):
                files[path.relative_to(base).as_posix()] = path.read_bytes()
    return files


def zip_files(files: Mapping[str, bytes]) -> bytes:
    """Return an archive of files by their names."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, 'w') as target:
        for name, data in files.items():
            _write_bytes(target, name, data, zipfile.ZIP_DEFLATED)
    return content.getvalue()


def _write_text(target: zipfile.ZipFile, name: str, text: str) -> None:
    _write_bytes(target, name, text.encode(), zipfile.ZIP_DEFLATED)


def _write_bytes(target: zipfile.ZipFile, name: str, data: bytes, compression: int) -> None:
    info = zipfile.ZipInfo(name, _ZIP_TIME)
    info.compress_type = compression
    info.external_attr = 0o100644 << 16
    target.writestr(info, data)
