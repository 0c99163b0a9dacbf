"""One training in a process of its own: started or continued, watched, and written down when it ends."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from mtl_plugins.errors import UserError
from mtl_plugins.lab.experiments.definition import Point, Sweep, locate
from mtl_plugins.lab.experiments.results import hash_of, scores_of, write_json, write_result
from mtl_plugins.lab.experiments.training import ORDER_NAME
from mtl_plugins.records.metrics_file import FILE_NAME as METRICS_FILE
from mtl_plugins.records.metrics_file import read_metrics
from mtl_plugins.records.record import read_record_file
from mtl_plugins.utils.data_files import parse_json, read_bytes
from mtl_plugins.utils.files import make_folder

OUTPUT_NAME = 'output.txt'
POLL_SECONDS = 1.0
PATIENCE_SECONDS = 30.0


class GivenUp(Exception):
    """The training was ended because its scores were worse than those of others."""


class Stopped(Exception):
    """The training was ended because the whole sweep is to end; it can be continued."""


def train_to_result(
    sweep: Sweep,
    point: Point,
    seed: int,
    folder: Path,
    path: Path,
    data_root: Path | None,
    environment: Mapping[str, str],
    progress: Callable[[float, Mapping[str, float]], bool],
    stop: threading.Event,
) -> dict[str, Any]:
    """Train a point with a seed, and write and return the result.

    Args:
        sweep, point, seed: What to train.
        folder: Where; an interrupted training of the same config is continued.
        path: The file of the result.
        data_root: As for :func:`load_config`.
        environment: Variables of the process in addition to those of this one.
        progress: Called after each validation with the share of the training that is done and the scores; True gives up.
        stop: When set, the training is ended.

    Raises:
        UserError: If the training fails; the sentence is its own.
        GivenUp, Stopped: As they say.
    """
    _prepare(
        folder,
        dict(
            config=locate(point.config, sweep.path),
            options=point.options_of(seed),
            data_root=data_root and str(data_root),
            amp=sweep.amp,
            config_hash=hash_of(sweep, point),
        ),
    )
    process = start_process(folder, environment)
    try:
        _watch(process, folder, progress, stop)
    finally:
        _end(process)
    if process.returncode:
        raise UserError(_sentence(process.returncode, folder / OUTPUT_NAME))
    return write_result(sweep, point, seed, folder, path)


def start_process(folder: Path, environment: Mapping[str, str]) -> subprocess.Popen:
    """Start the training of ``folder``. It ends when this process does, and not by the terminal's interrupt."""
    with (folder / OUTPUT_NAME).open('a', encoding='utf-8') as output:
        return subprocess.Popen(
            [sys.executable, '-m', 'mtl_plugins.lab.experiments.training', str(folder / ORDER_NAME)],
            env={**os.environ, 'PYTHONPATH': os.pathsep.join(filter(None, sys.path)), **environment},
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )


def _prepare(folder: Path, order: dict) -> None:
    """Write the order; what another one left in the folder goes, since it cannot be continued."""
    path = folder / ORDER_NAME
    with contextlib.suppress(OSError, ValueError):
        if parse_json(read_bytes(path)) == json.loads(json.dumps(order)):
            return
    # First of all, so that a folder of which a part is left is never taken for that of an order.
    path.unlink(missing_ok=True)
    shutil.rmtree(folder, ignore_errors=True)
    make_folder(folder)
    write_json(path, order)


def _watch(
    process: subprocess.Popen,
    folder: Path,
    progress: Callable[[float, Mapping[str, float]], bool],
    stop: threading.Event,
) -> None:
    seen = 0
    while True:
        ended = process.poll() is not None
        rows = read_metrics(folder / METRICS_FILE)
        for row in rows[seen:]:
            done = int(row['iter']) / read_record_file(folder)['progress']['max_iters']
            if progress(done, scores_of(row)) and done < 1:
                raise GivenUp
        seen = len(rows)
        if ended:
            return
        if stop.wait(POLL_SECONDS):
            raise Stopped


def _end(process: subprocess.Popen) -> None:
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(PATIENCE_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    process.stdin.close()


def _sentence(code: int, output: Path) -> str:
    """Why a training ended with ``code``: the last line that it wrote, its own sentence or that of an exception."""
    if code < 0:
        return f'The training was ended by {signal.Signals(-code).name}.'
    lines = [line.strip() for line in output.read_text(encoding='utf-8', errors='replace').splitlines() if line.strip()]
    return lines[-1].removeprefix('error: ') if lines else f'The training ended with exit status {code}.'
