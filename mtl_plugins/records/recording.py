"""Keeping the record of a run up to date, whoever writes to it."""

import contextlib
import datetime
import json
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from mtl_plugins.errors import DataNotFoundError, TrainingInterrupted, UserError
from mtl_plugins.records.config_data import as_data, hash_config
from mtl_plugins.records.provenance import provenance
from mtl_plugins.records.record import FORMAT, RECORD_NAME, read_record_file
from mtl_plugins.utils.cli import explain
from mtl_plugins.utils.files import locked, replacing, shorten_paths

_EMPTY = dict(note='', tags=[], task=None, graded=None, archive=None, sessions=[])
_SIGTERM_STATUS = 128 + signal.SIGTERM
_open_sessions: set[Path] = set()


class Terminated(SystemExit):
    """The process was asked to end (SIGTERM)."""


def change_record(work_dir: str | Path, change: Callable[[dict[str, Any]], None], missing_ok: bool = False) -> None:
    """Let ``change`` change the fields of ``run.json``; a UserError if there is none (unless ``missing_ok``) or it is broken."""
    work_dir = Path(work_dir)
    # A training and a person with a note take turns.
    with locked(work_dir):
        try:
            record = read_record_file(work_dir)
        except DataNotFoundError:
            if not missing_ok:
                raise
            record = {}
        change(record)
        # The longest part stands last, for those who look at the file.
        record.update({name: record.pop(name) for name in ('config',) if name in record})
        with replacing(work_dir / RECORD_NAME) as temporary:
            temporary.write_text(json.dumps(as_data(record), indent=1) + '\n', encoding='utf-8')


def start_session(work_dir: str | Path, config: Mapping[str, Any], config_file: str | None) -> None:
    """Begin a record, or another session of the one that is there, in the state ``running``."""
    config, now = as_data(config), _now()
    session = dict(started=now, updated=now, state='running', error=None, seconds=0.0, **provenance())

    def change(record: dict) -> None:
        for earlier in record.get('sessions') or ():
            if earlier.get('state') == 'running':
                earlier['state'] = 'killed'
        record.update({name: value for name, value in dict(_EMPTY, started=now).items() if name not in record})
        record.update(
            format=FORMAT,
            state='running',
            error=None,
            updated=now,
            ended=None,
            code=session['code'],
            versions=session['versions'],
            config_file=config_file and shorten_paths(config_file),
            config=config,
            config_hash=hash_config(config),
            seed=(config.get('randomness') or {}).get('seed'),
        )
        record['sessions'] = [*(record['sessions'] or ()), session]

    change_record(work_dir, change, missing_ok=True)
    _open_sessions.add(Path(work_dir).resolve())


def is_session_open(work_dir: str | Path) -> bool:
    """Return True if this process has started a session in ``work_dir`` that has not ended."""
    return Path(work_dir).resolve() in _open_sessions


def update_session(work_dir: str | Path, fields: Mapping[str, Any], session_fields: Mapping[str, Any] | None = None) -> None:
    """Set fields of the record and of its newest session, and count its time up to now."""

    def change(record: dict) -> None:
        now = _now()
        session = record['sessions'][-1]
        session.update(session_fields or {}, updated=now, seconds=_seconds_between(session['started'], now))
        record.update(fields, updated=now, seconds=round(sum(session.get('seconds') or 0 for session in record['sessions']), 3))

    change_record(work_dir, change)


def elapsed_seconds(record: Mapping[str, Any]) -> float:
    """Return the time of all sessions, the newest one counted up to now."""
    *earlier, newest = record['sessions']
    return round(sum(session.get('seconds') or 0 for session in earlier) + _seconds_between(newest['started'], _now()), 3)


def end_session(work_dir: str | Path, state: str, error: str | None = None, **fields: Any) -> None:
    """Close the newest session with ``'finished'``, ``'failed'`` or ``'interrupted'``; see :func:`update_session`."""
    _open_sessions.discard(Path(work_dir).resolve())
    update_session(work_dir, dict(fields, state=state, error=error, ended=_now()), dict(state=state, error=error))


@contextlib.contextmanager
def recorded_session(work_dir: str | Path, config: Mapping[str, Any], config_file: str | None) -> Iterator[None]:
    """Hold a session until the block ends: ``finished``, ``interrupted`` by Ctrl-C or a signal, or ``failed`` with a sentence.

    A mistake of the user before the first step of a new run, such as a wrong path, leaves no record. A record that cannot be
    written never ends a training; its own errors do, as without this.

    Raises:
        Terminated: On SIGTERM, in the main thread.
    """
    with contextlib.suppress(UserError):
        start_session(work_dir, config, config_file)
    with _sigterm_raises():
        state, sentence, mistake = 'failed', None, None
        try:
            yield
            state = 'finished'
        except (KeyboardInterrupt, Terminated, TrainingInterrupted):
            state = 'interrupted'
            raise
        except BaseException as error:
            text = (str(error).strip().splitlines() or [''])[0]
            mistake = explain(error)
            sentence = mistake or f'{type(error).__name__}: {text}'
            raise
        finally:
            with contextlib.suppress(UserError):
                end_session(work_dir, state, sentence)
                record = read_record_file(Path(work_dir))
                if mistake and len(record['sessions']) == 1 and 'progress' not in record:
                    (Path(work_dir) / RECORD_NAME).unlink()


@contextlib.contextmanager
def _sigterm_raises() -> Iterator[None]:
    # Another handler than the system's has its reasons.
    if threading.current_thread() is not threading.main_thread() or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        yield
        return

    def terminate(signum: int, frame: Any) -> None:
        # The next one must not stop the record from being written.
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        raise Terminated(_SIGTERM_STATUS)

    signal.signal(signal.SIGTERM, terminate)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _now() -> str:
    return datetime.datetime.now(datetime.timezone.utc).isoformat(timespec='milliseconds')


def _seconds_between(start: str, end: str) -> float:
    moments = [datetime.datetime.fromisoformat(moment) for moment in (start, end)]
    return round((moments[1] - moments[0]).total_seconds(), 3)
