"""A page on the runs below some folders that refreshes by itself, for the browser of the same machine. It only reads."""

import contextlib
import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from mtl_plugins.errors import UserError
from mtl_plugins.lab.report.curves import colours_of, curves_of, render, render_page
from mtl_plugins.lab.report.groups import group_runs, metrics_of
from mtl_plugins.lab.runs.tables import make_table, progress_table, run_names
from mtl_plugins.lab.runs.work_dirs import RunRecord, find_runs
from mtl_plugins.records.config_data import as_data
from mtl_plugins.utils.data_files import printable

LOOPBACK = '127.0.0.1'
# A page with more of them is slow, and nobody looks at them.
MOST_RUNS, MOST_CURVES, MOST_PICTURED, MOST_PICTURES, MOST_FAILURES = 300, 10, 3, 8, 5
LOG_BYTES, LOG_LINES = 8192, 12
_PICTURE = re.compile(r'(.+)_(\d+)\.png')


@dataclass
class Dashboard:
    """The content of a page on the runs below ``folders``, which refreshes every so many seconds."""

    folders: Sequence[Path]
    every: float = 5.0
    _pictures: dict[str, Path] = field(default_factory=dict, repr=False)

    def state(self) -> dict[str, Any]:
        """Return ``table`` and ``pictures`` as HTML, ``summary``, and the ``data`` of the page's script."""
        runs = find_runs(self.folders)[::-1]
        running = sum(run.state == 'running' for run in runs)
        shown = runs[:MOST_RUNS]
        groups = group_runs(shown)[:MOST_CURVES]
        note = f'The newest {MOST_RUNS} of {len(runs)} runs; `mtl runs list` has all.' if len(runs) > MOST_RUNS else ''
        metrics = list(reversed(metrics_of(groups)))
        # The common score is 0 until a model is good in all tasks.
        moving = [name for name in metrics if any(any(group.scores(name)) for group in groups)]
        monitor = next(iter(moving or metrics), 'loss')
        table = make_table(shown) if shown else None
        latest: list[tuple[str, list[dict[str, Any]]]] = []
        found: dict[str, Path] = {}
        for run, name in zip(shown, run_names(shown), strict=True):
            if len(latest) < MOST_PICTURED and (pictures := _latest_pictures(run, found)):
                latest.append((name, pictures))
        self._pictures = found
        data = dict(
            curves=curves_of(groups), colours=list(colours_of([group.name for group in groups]).values()), monitor=monitor
        )
        return dict(
            summary=f'{len(runs)} run{"s" * (len(runs) != 1)}, {running} running.',
            table=render('state_table.html', progress=progress_table(shown), runs=table, note=note, failures=_failures(shown)),
            pictures=render('state_pictures.html', latest=latest),
            data=as_data(data),
        )

    def page(self) -> str:
        """Return the whole page."""
        state = self.state()
        return render_page(
            'dashboard.html',
            title='Runs',
            sources="'self'",
            sections=[('runs', 'Runs'), ('curves', 'Curves'), ('pictures', 'Pictures')],
            state=state,
            every=f'{self.every:g}',
            data=dict(state['data'], gallery=None, refresh=self.every),
        )

    def picture(self, key: str) -> bytes | None:
        """Return the PNG of a name on the page; None for any other name, and for a file that is gone."""
        path = self._pictures.get(key)
        try:
            return path.read_bytes() if path else None
        except OSError:
            return None


def _failures(runs: Sequence[RunRecord]) -> list[dict[str, str]]:
    """Return name, state, reason and the end of the log of the newest runs that ended badly."""
    failures = []
    for run, name in zip(runs, run_names(runs), strict=True):
        if run.state in ('failed', 'killed', 'unreadable') and len(failures) < MOST_FAILURES:
            reason = run.data.get('error') or 'The process ended without a word: it was killed, or ran out of memory.'
            failures.append(dict(name=name, state=run.state, reason=printable(str(reason)), log=_log_tail(run.path)))
    return failures


def _log_tail(work_dir: Path) -> str:
    """Return the last lines of the newest log; '' without one."""
    inside = [path for path in sorted(work_dir.glob('*/*.log')) if path.resolve().is_relative_to(work_dir.resolve())]
    with contextlib.suppress(OSError, IndexError), inside[-1].open('rb') as file:
        file.seek(max(inside[-1].stat().st_size - LOG_BYTES, 0))
        return printable('\n'.join(file.read().decode(errors='replace').splitlines()[-LOG_LINES:]), kept='\n')
    return ''


def _latest_pictures(run: RunRecord, found: dict[str, Path]) -> list[dict[str, Any]]:
    """Return the newest picture of each name that a run has drawn, and add its file to ``found`` by its key on the page."""
    newest: dict[str, tuple[int, Path]] = {}
    work_dir = run.path.resolve()
    for folder in sorted(run.path.glob('*/vis_data/vis_image')):
        for path in folder.rglob('*.png'):
            match = _PICTURE.fullmatch(str(path.relative_to(folder)))
            # A link may lead anywhere.
            if match and path.is_file() and path.resolve().is_relative_to(work_dir):
                newest[match[1]] = max(newest.get(match[1], (-1, path)), (int(match[2]), path))
    pictures = []
    for name, (step, path) in sorted(newest.items(), key=lambda item: -item[1][0])[:MOST_PICTURES]:
        with contextlib.suppress(FileNotFoundError):
            status = path.stat()
            key = hashlib.sha256(f'{path.absolute()} {status.st_mtime_ns} {status.st_size}'.encode()).hexdigest()[:24]
            found[key] = path
            pictures.append(dict(name=name, step=step, url=f'picture/{key}.png'))
    return pictures


def make_server(dashboard: Dashboard, port: int) -> ThreadingHTTPServer:
    """Return a server of the page on the loopback interface, not yet serving; port 0 takes a free one."""

    class Handler(_Handler):
        shown = dashboard

    try:
        server = ThreadingHTTPServer((LOOPBACK, port), Handler)
    except OSError as error:
        raise UserError(f'Port {port} of {LOOPBACK} cannot be used: {error.strerror}. Give another --port.') from error
    server.daemon_threads = True
    return server


class _Handler(BaseHTTPRequestHandler):
    shown: Dashboard
    # A browser that opens a connection and says nothing.
    timeout = 30

    def do_GET(self) -> None:
        host = (self.headers.get('Host') or '').rpartition(':')[0]
        # Pages of other sites may let their name point here.
        if host not in (LOOPBACK, 'localhost'):
            self._answer(403, 'text/plain', b'This page is for the browser of the same machine.')
            return
        path = self.path.partition('?')[0]
        try:
            if path == '/':
                self._answer(200, 'text/html', self.shown.page().encode())
            elif path == '/state':
                self._answer(200, 'application/json', json.dumps(self.shown.state()).encode())
            elif path.startswith('/picture/') and (data := self.shown.picture(path[len('/picture/') :].removesuffix('.png'))):
                self._answer(200, 'image/png', data, {'Cache-Control': 'max-age=86400'})
            else:
                self._answer(404, 'text/plain', b'There is no such page.')
        except UserError as error:
            self._answer(503, 'text/plain', str(error).encode())
        except (BrokenPipeError, ConnectionResetError):
            # The browser went away.
            return

    def _answer(self, status: int, kind: str, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        fields = {'Content-Type': f'{kind}; charset=utf-8' if kind != 'image/png' else kind, 'Cache-Control': 'no-store'}
        fields |= {'X-Content-Type-Options': 'nosniff', 'Content-Length': str(len(body))}
        for name, value in (fields | (headers or {})).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: Any) -> None:
        """Log nothing in the terminal."""
