"""A cache of many records in one SQLite file: whatever it says is checked against the files, and it may vanish at any time."""

import json
import os
import sqlite3
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

_VERSION = 2
_SCHEMA = """
CREATE TABLE runs (path TEXT PRIMARY KEY, changed_ns INTEGER, size INTEGER, data TEXT, sections TEXT) WITHOUT ROWID;
CREATE TABLE sections (id INTEGER PRIMARY KEY, text TEXT UNIQUE);
"""
_ORPHANS = 'DELETE FROM sections WHERE id NOT IN (SELECT item.value FROM runs, json_each(runs.sections) AS item)'
# A file that was written again within the granularity of its clock looks unchanged.
_YOUNG_NS = 2_000_000_000
_PATIENCE_SECONDS = 1.0
_BROKEN = (sqlite3.Error, OSError, ValueError, TypeError, KeyError)


class Stamp(NamedTuple):
    """Return a stamp that differs when ``run.json`` has changed, without reading it: no program can set that time back."""

    changed_ns: int
    size: int


Parts = tuple[dict[str, Any], dict[str, str]]


class RunIndex:
    """Parsed records by path. A section of a config that many runs share is held once.

    No method raises: a file that is broken, locked, or not to be written is as good as none. A broken one is removed.

    Args:
        path: The SQLite file; made if missing.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._connection: sqlite3.Connection | None = None
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._connection = sqlite3.connect(self.path, timeout=_PATIENCE_SECONDS)
            # Losing a cache is no loss.
            self._connection.execute('PRAGMA synchronous = OFF')
            (version,) = self._connection.execute('PRAGMA user_version').fetchone()
            if version != _VERSION:
                self._start_anew()
        except _BROKEN as error:
            self._give_up(error)

    def load(self, folder: str, stamps: Mapping[str, Stamp]) -> dict[str, Parts]:
        """Fields and config sections of those records below ``folder`` whose files have not changed, by path.

        Args:
            folder: The real path of a folder.
            stamps: Of all records below it, by the real path of the work dir. What the index knows beyond them is forgotten.
        """
        if self._connection is None:
            return {}
        try:
            # All paths below the folder lie between these two: '0' follows '/'.
            below = (folder, folder.rstrip('/') + '/', folder.rstrip('/') + '0')
            where = 'WHERE path = ? OR (path > ? AND path < ?)'
            rows = self._connection.execute(f'SELECT path, changed_ns, size, data, sections FROM runs {where}', below).fetchall()
            gone = [(path,) for path, *_ in rows if path not in stamps]
            if gone:
                self._connection.executemany('DELETE FROM runs WHERE path = ?', gone)
                self._connection.execute(_ORPHANS)
                self._connection.commit()
            fresh = [row for row in rows if row[0] in stamps and Stamp(row[1], row[2]) == stamps[row[0]]]
            texts = dict(self._connection.execute('SELECT id, text FROM sections')) if fresh else {}
            return {
                path: (json.loads(data), {name: texts[key] for name, key in json.loads(sections).items()})
                for path, _, _, data, sections in fresh
            }
        except _BROKEN as error:
            self._give_up(error)
            return {}

    def store(self, entries: Iterable[tuple[str, Stamp, Parts]]) -> None:
        """Remember records by path; those that were written just now are left out."""
        latest = time.time_ns() - _YOUNG_NS
        entries = [entry for entry in entries if entry[1].changed_ns < latest]
        if self._connection is None or not entries:
            return
        try:
            texts = {text for _, _, (_, sections) in entries for text in sections.values()}
            self._connection.executemany('INSERT OR IGNORE INTO sections (text) VALUES (?)', [(text,) for text in texts])
            ids = {text: key for key, text in self._connection.execute('SELECT id, text FROM sections')}
            rows = [
                (path, *stamp, json.dumps(data), json.dumps({name: ids[text] for name, text in sections.items()}))
                for path, stamp, (data, sections) in entries
            ]
            self._connection.executemany('INSERT OR REPLACE INTO runs VALUES (?, ?, ?, ?, ?)', rows)
            self._connection.commit()
        except _BROKEN as error:
            self._give_up(error)

    def close(self) -> None:
        """Let go of the file."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _start_anew(self) -> None:
        self._connection.executescript(f'DROP TABLE IF EXISTS runs; DROP TABLE IF EXISTS sections; {_SCHEMA}')
        self._connection.execute(f'PRAGMA user_version = {_VERSION}')
        self._connection.commit()

    def _give_up(self, error: Exception) -> None:
        try:
            self.close()
            # An operational error is one of access: locked, read-only, disk full.
            if not isinstance(error, (sqlite3.OperationalError, OSError)):
                self.path.unlink()
        except (sqlite3.Error, OSError):
            self._connection = None


def default_index_path() -> Path:
    """``mtl_plugins/records.sqlite`` in the user's cache folder."""
    return Path(os.environ.get('XDG_CACHE_HOME') or Path('~/.cache').expanduser()) / 'mtl_plugins' / 'runs.sqlite'
