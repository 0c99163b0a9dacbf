"""One training in a process of its own: started or continued, watched, and written down when it ends."""

import contextlib
import datetime
import hashlib
import json
import os
import platform
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config

from mtl_plugins.config.load import load_config
from mtl_plugins.errors import UserError
from mtl_plugins.lab.experiments.clock import begin_attempt, end_attempt
from mtl_plugins.lab.experiments.run import Run
from mtl_plugins.lab.experiments.training import FACTS_NAME, ORDER_NAME
from mtl_plugins.records.config_data import as_data, hash_config
from mtl_plugins.records.metrics_file import FILE_NAME as METRICS_FILE
from mtl_plugins.records.metrics_file import read_metrics
from mtl_plugins.records.provenance import code_state
from mtl_plugins.records.record import read_record_file, seconds_per_iteration
from mtl_plugins.utils.data_files import ANY, is_number, parse_json, read_bytes, read_json
from mtl_plugins.utils.files import make_folder, replacing

ROOT = Path(__file__).resolve().parents[3]
OUTPUT_NAME = 'output.txt'
POLL_SECONDS = 1.0
PATIENCE_SECONDS = 30.0
# mmengine reads configs through files and modules that are the process's.
_loading = threading.Lock()


class GivenUp(Exception):
    """The training was ended because its scores were worse than those of others."""


class Stopped(Exception):
    """The training was ended because the whole sweep is to end; it can be continued."""


Progress = Callable[[float, Mapping[str, float]], bool]


def train_to_result(
    run: Run,
    data_root: Path | None,
    data: dict | None,
    amp: bool,
    environment: Mapping[str, str],
    progress: Progress,
    stop: threading.Event,
) -> dict[str, Any]:
    """The content of ``run.result``, trained for if it is not there.

    Args:
        run: What to train.
        data_root: As for :func:`load_config`.
        data: What the result says about the data.
        amp: bfloat16 where the device has it.
        environment: Variables of the process beside those of this one.
        progress: Called after each validation with the share of the training that is done and the scores; True gives up.
        stop: When set, the training is ended.

    Raises:
        UserError: If the training fails; the sentence is its own.
        GivenUp, Stopped: As they say.
    """
    done = read_result(run, data, amp)
    if isinstance(done, dict):
        return done
    config = _load(run, data_root)
    order = dict(
        config=run.config,
        options=run.options,
        data_root=data_root and str(data_root),
        amp=amp,
        config_sha256=hashlib.sha256(json.dumps(config.to_dict(), default=str).encode()).hexdigest(),
    )
    _prepare(run.folder, order)
    length = (
        ('epoch', config.train_cfg.max_epochs) if config.train_cfg.get('max_epochs') else ('iter', config.train_cfg.max_iters)
    )
    started = begin_attempt(run.folder)
    process = start_process(run.folder, environment)
    try:
        _watch(process, run.folder, length, progress, stop)
    finally:
        _end(process)
    if process.returncode:
        raise UserError(_sentence(process.returncode, run.folder / OUTPUT_NAME))
    seconds = end_attempt(run.folder)
    facts = read_json(run.folder / FACTS_NAME, 'result', {})
    rows = read_metrics(run.folder / METRICS_FILE)
    document = dict(
        row=run.label,
        **_origin(run, data, amp),
        config_hash=hash_config(as_data(config.to_dict())),
        split='val',
        metrics=_scores(rows[-1]),
        validations=_validations(run.folder, rows),
        parameters=facts['parameters'],
        memory=facts['memory'],
        seconds=seconds,
        step_seconds=_step_seconds(run.folder),
        **provenance(datetime.datetime.fromtimestamp(started, datetime.timezone.utc), facts['device']),
    )
    write_document(run.result, document)
    return document


def read_result(run: Run, data: dict | None, amp: bool) -> dict[str, Any] | str | None:
    """The content of ``run.result``; None if there is no such file.

    If it was made otherwise than ``run`` would be now, the name of what differs: ``config``, ``options``, ``seed``, ``data``,
    ``amp`` or ``config_hash``, the content of the config. What an earlier version did not note is taken to be the same.
    """
    if not run.result.exists():
        return None
    document = read_json(run.result, 'result', dict(metrics={ANY: is_number}, validations=[{}]))
    for key, value in json.loads(json.dumps(_origin(run, data, amp), default=str)).items():
        if key in document and document[key] != value:
            return key
    if 'config_hash' in document:
        # Of a config that has gone nothing can be said.
        with contextlib.suppress(UserError):
            if document['config_hash'] != hash_config(as_data(_load(run, None).to_dict())):
                return 'config_hash'
    return document


def _origin(run: Run, data: dict | None, amp: bool) -> dict[str, Any]:
    return dict(config=run.config.removeprefix(f'{ROOT}{os.sep}'), options=run.options, seed=run.seed, data=data, amp=amp)


def _load(run: Run, data_root: Path | None) -> Config:
    with _loading:
        return load_config(run.config, run.options, data_root and str(data_root))


def start_process(folder: Path, environment: Mapping[str, str]) -> subprocess.Popen:
    """The training process of ``folder``. It ends when this process does, and not by the terminal's interrupt."""
    with (folder / OUTPUT_NAME).open('a', encoding='utf-8') as output:
        return subprocess.Popen(
            [sys.executable, '-m', 'mtl_plugins.lab.experiments.training', str(folder / ORDER_NAME)],
            env={**os.environ, 'PYTHONPATH': os.pathsep.join([str(ROOT), *filter(None, sys.path)]), **environment},
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )


def provenance(started: datetime.datetime, device: str) -> dict[str, Any]:
    """Commit, time, device and versions, as the results state them."""
    versions = dict(python=platform.python_version(), torch=torch.__version__)
    date = started.isoformat(timespec='seconds')
    return dict(commit=code_state()['commit'], date=date, device=device, versions=versions)


def write_document(path: Path, document: Any) -> None:
    """JSON that appears whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(document, indent=2) + '\n', encoding='utf-8')


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
    write_document(path, order)


def _watch(process: subprocess.Popen, folder: Path, length: tuple[str, int], progress: Progress, stop: threading.Event) -> None:
    seen = 0
    while True:
        ended = process.poll() is not None
        rows = read_metrics(folder / METRICS_FILE)
        for row in rows[seen:]:
            done = int(row[length[0]]) / length[1]
            if progress(done, _scores(row)) and done < 1:
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


def _scores(row: Mapping[str, str]) -> dict[str, float]:
    return {name: float(value) for name, value in row.items() if value}


def _validations(folder: Path, rows: Sequence[Mapping[str, str]]) -> list[dict[str, float]]:
    """Iteration and summaries of each validation and, where the config keeps a record, the training time by then."""
    try:
        known = {entry['iter']: entry for entry in read_record_file(folder).get('validations') or ()}
    except UserError:
        known = {}
    found = []
    for row in rows:
        scores = {name: value for name, value in _scores(row).items() if name.startswith('metrics_summary/')}
        times = known.get(int(row['iter']), {})
        found.append(
            dict(
                iter=int(row['iter']),
                train_seconds=times.get('train_seconds'),
                train_cpu_seconds=times.get('train_cpu_seconds'),
                **scores,
            )
        )
    return found


def _step_seconds(folder: Path) -> float | None:
    """Time of a training iteration; None where the config keeps no record."""
    try:
        return seconds_per_iteration(read_record_file(folder))
    except UserError:
        return None


def _sentence(code: int, output: Path) -> str:
    """Why a training ended with ``code``: the last line that it wrote, in a house sentence or an exception's."""
    if code < 0:
        return f'The training was ended by {signal.Signals(-code).name}.'
    lines = [line.strip() for line in output.read_text(encoding='utf-8', errors='replace').splitlines() if line.strip()]
    return lines[-1].removeprefix('error: ') if lines else f'The training ended with exit status {code}.'
