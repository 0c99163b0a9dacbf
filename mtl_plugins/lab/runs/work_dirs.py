"""Finding the runs below folders."""

import json
import os
import re
from collections.abc import Sequence
from pathlib import Path

from mtl_plugins.errors import DataNotFoundError, UserError
from mtl_plugins.records.record import LOCK_NAME, RECORD_NAME, RunRecord, read_record_file
from mtl_plugins.utils.files import is_locked

# The logs of one start of the Runner: nothing of ours is in there.
_LOG_FOLDER = re.compile(r'\d{8}_\d{6}')


def find_runs(folders: Sequence[str | Path]) -> list[RunRecord]:
    """Return all runs at or below ``folders``, however far down, each once, in the order of their start.

    A work dir has a ``run.json``. One that cannot be read is listed with the state ``unreadable`` and the sentence as its
    ``error``. Symbolic links below the folders are not followed.

    Raises:
        DataNotFoundError: If a folder does not exist.
    """
    runs: dict[str, Path] = {}
    for folder in map(Path, reversed(folders)):
        if not folder.is_dir():
            raise DataNotFoundError(f"The folder '{folder}' does not exist. Give a work dir, or a folder that holds some.")
        for current, below, files in os.walk(folder):
            # A link to a folder is listed with the folders.
            if RECORD_NAME in files or RECORD_NAME in below:
                runs[os.path.realpath(current)] = Path(current)
            below[:] = [name for name in below if name != RECORD_NAME and not _LOG_FOLDER.fullmatch(name)]
    found = [read_run(work_dir) for work_dir in runs.values()]
    return sorted(found, key=lambda run: (str(run.data.get('started') or ''), str(run.path)))


def require_runs(folders: Sequence[Path]) -> list[RunRecord]:
    """Return the runs of the folders as given, each once, within a folder by start; none is a `DataNotFoundError`."""
    runs = list({run.path.resolve(): run for folder in folders for run in find_runs([folder])}.values())
    if not runs:
        listed = ', '.join(map(str, folders))
        raise DataNotFoundError(f'There should be a work dir with run.json at or below {listed}. Found none.')
    return runs


def read_run(work_dir: str | Path) -> RunRecord:
    """Return the run of a work dir; of the state ``unreadable`` if its record cannot be read."""
    work_dir = Path(work_dir)
    try:
        record = read_record_file(work_dir)
    except UserError as error:
        return RunRecord(work_dir, dict(error=str(error)), {}, 'unreadable')
    config = record.pop('config', None) or {}
    state = str(record.get('state', 'unknown'))
    if state == 'running' and not is_locked(work_dir / LOCK_NAME):
        state = 'killed'
    return RunRecord(work_dir, record, {name: json.dumps(section) for name, section in config.items()}, state)
