"""Finding runs below folders: those with a record, and older work dirs with what their files tell."""

import datetime
import functools
import json
import marshal
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from mtl_plugins.errors import CheckpointError, CorruptFileError, DataNotFoundError, UserError
from mtl_plugins.lab.runs.index import RunIndex, Stamp, default_index_path
from mtl_plugins.records.config_data import hash_config, read_config_dump
from mtl_plugins.records.metrics_file import FILE_NAME as METRICS_NAME
from mtl_plugins.records.metrics_file import best_validation, read_metrics, read_row
from mtl_plugins.records.record import LOCK_NAME, RECORD_NAME, RunRecord, check_record, read_record_file
from mtl_plugins.utils.checkpoint_io import find_latest_checkpoint
from mtl_plugins.utils.files import is_locked

# The logs of one start of the Runner: nothing of ours is in there.
_LOG_FOLDER = re.compile(r'\d{8}_\d{6}')
# A version of the format in which equal data are equal bytes.
_WITHOUT_REFERENCES = 2
_DEFAULT_MONITOR = 'metrics_summary/multitask'


def find_runs(folders: Sequence[str | Path], index_path: Path | None = None) -> list[RunRecord]:
    """All runs at or below ``folders``, however far down, each once, in the order of their start.

    A work dir has a ``run.json``, or else, from an older version, a ``metrics.csv``. One that cannot be read is listed with the
    state ``unreadable`` and the sentence as its ``error``. Symbolic links below the folders are not followed.

    Args:
        folders: Work dirs, or folders that hold some.
        index_path: File of the cache that spares reading what has not changed; in the user's cache folder by default. Without
            access to it everything is read.

    Raises:
        DataNotFoundError: If a folder does not exist.
    """
    index = RunIndex(index_path or default_index_path())
    runs: dict[str, RunRecord] = {}
    try:
        for folder in folders:
            for key, run in _runs_below(Path(folder), index).items():
                runs.setdefault(key, run)
    finally:
        index.close()
    return sorted(runs.values(), key=lambda run: (str(run.data.get('started') or ''), str(run.path)))


def _runs_below(folder: Path, index: RunIndex) -> dict[str, RunRecord]:
    """Runs by the real path of the work dir: below the folder no links are followed."""
    real, length = os.path.realpath(folder), len(str(folder)) if str(folder) != '.' else -1
    runs, recorded = {}, {}
    for work_dir, source in find_work_dirs(folder):
        key = real if work_dir == folder else real.rstrip('/') + '/' + str(work_dir)[length + 1 :]
        if source.name != RECORD_NAME:
            runs[key] = read_older_run(work_dir)
            continue
        try:
            status = source.stat()
        except OSError as error:
            # Gone since it was listed, or a link that leads nowhere.
            if source.is_symlink():
                runs[key] = _unreadable(work_dir, f"'{work_dir / RECORD_NAME}' cannot be read: {error.strerror}.")
            continue
        recorded[key] = (work_dir, Stamp(max(status.st_ctime_ns, status.st_mtime_ns), status.st_size))
    known = index.load(real, {key: stamp for key, (_, stamp) in recorded.items()})
    read = []
    for key, (work_dir, stamp) in recorded.items():
        try:
            parts = known.get(key) or split_record(read_record_file(work_dir))
        except UserError as error:
            runs[key] = _unreadable(work_dir, str(error))
            continue
        if key not in known:
            read.append((key, stamp, parts))
        runs[key] = make_run(work_dir, *parts)
    index.store(read)
    return runs


def find_work_dirs(folder: Path) -> Iterator[tuple[Path, os.DirEntry]]:
    """Work dirs at or below a folder, each with its ``run.json`` or else its ``metrics.csv``.

    Raises:
        DataNotFoundError: If the folder does not exist.
    """
    if not folder.is_dir():
        raise DataNotFoundError(f"The folder '{folder}' does not exist. Give a work dir, or a folder that holds some.")
    pending = [folder]
    while pending:
        current = pending.pop()
        found: dict[str, os.DirEntry] = {}
        try:
            with os.scandir(current) as entries:
                for entry in entries:
                    if entry.name in (RECORD_NAME, METRICS_NAME):
                        found[entry.name] = entry
                    elif entry.is_dir(follow_symlinks=False) and not _LOG_FOLDER.fullmatch(entry.name):
                        pending.append(Path(entry.path))
        except OSError:
            # A folder of somebody else, or one that was just removed.
            continue
        if found:
            yield current, found.get(RECORD_NAME) or found[METRICS_NAME]


def read_run(work_dir: str | Path) -> RunRecord:
    """The run of a work dir with a record; of the state ``unreadable`` if it cannot be read."""
    work_dir = Path(work_dir)
    try:
        data = read_record_file(work_dir)
    except UserError as error:
        return _unreadable(work_dir, str(error))
    return make_run(work_dir, *split_record(data))


def _unreadable(work_dir: Path, sentence: str) -> RunRecord:
    return RunRecord(work_dir, dict(error=sentence), {}, 'unreadable')


def split_record(record: dict[str, Any]) -> tuple[dict[str, Any], dict[str, str]]:
    """The fields without the config, and the text of each of the config's sections."""
    config = record.pop('config', None) or {}
    return record, {name: _text(marshal.dumps(section, _WITHOUT_REFERENCES)) for name, section in config.items()}


@functools.lru_cache(maxsize=4096)
def _text(section: bytes) -> str:
    """The JSON text of data; most runs have the same sections, and these bytes are made several times as fast as the text."""
    return json.dumps(marshal.loads(section))


def make_run(work_dir: Path, data: dict[str, Any], config_sections: dict[str, str]) -> RunRecord:
    """The run of a work dir from the two parts of its record, and from the lock of the work dir."""
    state = str(data.get('state', 'unknown'))
    if state == 'running' and not is_locked(work_dir / LOCK_NAME):
        state = 'killed'
    return RunRecord(work_dir, data, config_sections, state)


def read_older_run(work_dir: Path) -> RunRecord:
    """What the files of a work dir tell without a record: config, scores, archive, checkpoints, times of the files."""
    try:
        rows = read_metrics(work_dir / METRICS_NAME)
        scores = [read_row(row) for row in rows]
        steps = [dict(epoch=int(row.get('epoch') or 0), iter=int(row['iter'])) for row in rows]
    except (ValueError, CorruptFileError) as error:
        return _unreadable(work_dir, f"'{work_dir / METRICS_NAME}' is not the file of a run's metrics: {error}")
    dump, config = _newest_config(work_dir)
    hook = (config.get('default_hooks') or {}).get('checkpoint') or {}
    monitor = hook.get('save_best', _DEFAULT_MONITOR)
    monitor = monitor[0] if isinstance(monitor, list) and monitor else monitor
    rule = hook.get('rule') if isinstance(hook.get('rule'), str) else None
    best = best_validation(scores, monitor if isinstance(monitor, str) else None, rule)
    archives = sorted(path.name for path in work_dir.glob('T[0-9][0-9]_*.zip'))
    try:
        latest = find_latest_checkpoint(work_dir)
    except CheckpointError:
        latest = None
    data = dict(
        run_name=archives[-1].removesuffix('.zip') if archives else None,
        archive=archives[-1] if archives else None,
        updated=_modified(work_dir / METRICS_NAME),
        started=_modified(dump) if dump else _modified(work_dir / METRICS_NAME),
        config_file=dump.name if dump else None,
        config_hash=hash_config(config) if config else None,
        seed=(config.get('randomness') or {}).get('seed'),
        progress=steps[-1] if steps else {},
        last_scores=scores[-1] if scores else {},
        scores=scores[best if best is not None else -1] if scores else {},
        best=None if best is None else dict(monitor=monitor, rule=rule, **steps[best], value=scores[best][monitor]),
        checkpoints=dict(
            best=next((path.name for path in sorted(work_dir.glob('best_*.pth'))), None),
            last=latest and Path(latest).name,
        ),
    )
    state = 'running' if (work_dir / LOCK_NAME).exists() and is_locked(work_dir / LOCK_NAME) else 'unknown'
    return RunRecord(work_dir, data, {name: json.dumps(section) for name, section in config.items()}, state)


def _newest_config(work_dir: Path) -> tuple[Path | None, dict[str, Any]]:
    for path in sorted(filter(Path.is_file, work_dir.glob('*.py')), key=lambda path: path.stat().st_mtime, reverse=True):
        try:
            config = read_config_dump(path)
            check_record(dict(config=config), path)
        except (ValueError, SyntaxError, RecursionError, MemoryError, OSError, CorruptFileError):
            continue
        return path, config
    return None, {}


def _modified(path: Path) -> str:
    moment = datetime.datetime.fromtimestamp(path.stat().st_mtime, datetime.timezone.utc)
    return moment.isoformat(timespec='seconds')


def superfluous_checkpoints(run: RunRecord) -> list[Path]:
    """Checkpoints of a run that are neither the best nor the last; none if it runs, or if its last one is not known."""
    if is_locked(run.path / LOCK_NAME) or run.state == 'unreadable' or (latest := find_latest_checkpoint(run.path)) is None:
        return []
    kept = {Path(name).name for name in (run.data.get('checkpoints') or {}).values() if name}
    kept.add(Path(latest).name)
    if not all((run.path / name).is_file() for name in kept):
        return []
    return [path for path in sorted(run.path.glob('*.pth')) if path.name not in kept and not path.name.startswith('best_')]
