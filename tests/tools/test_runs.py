"""`tools/runs.py` at work, and what it refuses."""

import csv
import io
import json
import os
import pty
import select
import signal
import subprocess
import sys
import time
from types import SimpleNamespace

import pytest

from mtl_plugins.records.record import LOCK_NAME
from mtl_plugins.utils.files import hold_lock
from tests.tiny import ROOT


@pytest.fixture
def work_dirs(tmp_path):
    for name, lr, score in (('one', 0.1, 3.0), ('two', 0.01, 30.0)):
        folder = tmp_path / 'work' / name
        folder.mkdir(parents=True)
        config = dict(optim_wrapper=dict(lr=lr), model=dict(depth=18))
        scores = {'metrics_summary/multitask': score, 'metrics_summary/semseg': 50.0 + score, 'metrics_summary/depth': 25.0}
        record = dict(state='finished', config=config, scores=scores, archive='T00.zip')
        (folder / 'run.json').write_text(json.dumps(record))
    return tmp_path / 'work'


def test_list_note_export_and_sheet(run_cli, work_dirs, tmp_path):
    result = run_cli('runs', 'list', work_dirs, '--sort', 'multitask', '--where', 'multitask > 1').check()
    header, *rows = (line.split() for line in result.out.splitlines())
    assert header == ['run', 'state', 'epoch', 'mIoU', 'SI-logRMSE', 'multitask', 'lr', 'time']
    assert rows == [['two', 'finished', '80.00', '25.00', '30.00', '0.01'], ['one', 'finished', '53.00', '25.00', '3.00', '0.1']]
    graded = tmp_path / 'graded.json'
    graded.write_text(json.dumps({'metrics_summary/multitask': 28.5}))
    run_cli('runs', 'note', work_dirs / 'two', 'the better one', '--tag', 'kept', '--task', '2', '--graded', graded).check()
    assert 'the better one' in run_cli('runs', 'show', work_dirs / 'two').out
    (row,) = csv.DictReader(io.StringIO(run_cli('runs', 'score-sheet', work_dirs, '--where', 'tags ~ kept').out))
    assert {('task', '2'), ('notes', 'the better one'), ('validation multitask', '30.0')} < set(row.items())
    assert row['grader multitask'] == '28.5'
    run_cli('runs', 'export', work_dirs, '--out', tmp_path / 'table.tex').check()
    assert r'\toprule' in (tmp_path / 'table.tex').read_text()


def test_a_note_reaches_the_run_of_wandb_or_a_sentence_says_why_not(run_cli, work_dirs, monkeypatch):
    online = SimpleNamespace(notes='', tags=['its own'], update=lambda: saved.append((online.notes, online.tags)))
    saved, asked = [], []

    def note(*arguments):
        result = run_cli('runs', 'note', work_dirs / 'one', *arguments)
        assert result.code == 0, result.err
        return result.out

    def api(timeout, api_key):
        return SimpleNamespace(run=lambda path: asked.append(path) or online)

    def unreachable(**_):
        raise FakeError('No API key configured.\nMore.')

    class FakeError(Exception):
        pass

    monkeypatch.delenv('WANDB_MODE', raising=False)
    monkeypatch.setenv('WANDB_SILENT', 'true')
    monkeypatch.setitem(sys.modules, 'wandb', SimpleNamespace(Api=api, Error=FakeError))
    assert note('of no run of wandb') == '' and not asked
    path = work_dirs / 'one' / 'run.json'
    path.write_text(json.dumps(json.loads(path.read_text()) | dict(wandb='team/project/abc')))
    assert 'too' in note('Row 1 in Tab. 1: Adam', '--tag', 'kept')
    assert asked == ['team/project/abc'] and saved == [('Row 1 in Tab. 1: Adam', ['its own', 'kept'])]
    assert 'too' in note('--tag', 'more') and saved[-1] == ('Row 1 in Tab. 1: Adam', ['its own', 'kept', 'more'])
    assert note('--task', '2a') == '' and len(saved) == 2

    monkeypatch.setattr(sys.modules['wandb'], 'Api', unreachable)
    out = note('second')
    assert out.count('\n') == 1 and 'record only' in out and 'No API key configured)' in out
    monkeypatch.setenv('WANDB_MODE', 'offline')
    assert 'WANDB_MODE is offline' in note('third')
    monkeypatch.delenv('WANDB_MODE')
    monkeypatch.setitem(sys.modules, 'wandb', None)
    assert '[tracking]' in note('fourth') and json.loads(path.read_text())['note'] == 'fourth'


def test_costs_and_the_name_are_columns_of_the_runs_that_have_them(run_cli, work_dirs):
    path = work_dirs / 'one' / 'run.json'
    costs = dict(memory_mib=12345.6, power_watts=207.3, run_name='G46_0406-0948_adam_4f5fb', note='Row 1')
    path.write_text(json.dumps(json.loads(path.read_text()) | costs))
    header, row, _ = run_cli('runs', 'list', work_dirs).out.splitlines()
    assert header.endswith('note   memory (MiB)  power (W)  run name')
    assert row.split()[-5:] == ['Row', '1', '12346', '207', 'G46_0406-0948_adam_4f5fb']


def test_the_live_view_in_a_terminal_shows_what_runs_until_it_is_interrupted(work_dirs):
    running = work_dirs / ('a_name_that_is_too_long_for_the_terminal_' * 2)
    running.mkdir()
    progress = dict(iter=12345, max_iters=40000, loss=0.25)
    scores = {'metrics_summary/semseg': 44.7, 'metrics_summary/depth': 26.4, 'metrics_summary/multitask': 12.5}
    (running / 'run.json').write_text(json.dumps(dict(state='running', progress=progress, scores=scores)))
    assert hold_lock(running / LOCK_NAME)
    ours, terminal = pty.openpty()
    command = [sys.executable, ROOT / 'tools/runs.py', 'list', '--watch', '--every', '0.05', work_dirs]
    environment = {**os.environ, 'COLUMNS': '80', 'TERM': 'xterm'}
    # A program inherits that Ctrl-C is ignored, as it is in the background of a script.
    inherited = signal.signal(signal.SIGINT, signal.default_int_handler)
    process = subprocess.Popen(command, stdin=terminal, stdout=terminal, stderr=terminal, env=environment)
    signal.signal(signal.SIGINT, inherited)
    os.close(terminal)
    deadline = time.monotonic() + 120
    text, interrupted = b'', False
    try:
        while select.select([ours], [], [], 30)[0] and time.monotonic() < deadline:
            text += os.read(ours, 2**16)
            if text.count(b'running') >= 3 and not interrupted:
                process.send_signal(signal.SIGINT)
                interrupted = True
        pytest.fail(f'The view did not end. It showed: {text.decode()}')
    except OSError:
        # What reading from a terminal gives when its last program has ended.
        assert process.wait(30) == 0, text.decode()
    finally:
        process.kill()
        os.close(ours)
    shown = text.decode()
    assert '1 of 3 runs are running' in shown and 'Traceback' not in shown
    # Of the view as it was drawn last.
    (row,) = [line for line in shown.rpartition('runs are running')[2].splitlines() if 'a_name' in line]
    assert row.split()[0].endswith('…') and row.split()[1:] == ['12345/40000', '0.250', '44.70', '26.40', '12.50']


@pytest.mark.parametrize(
    ('arguments', 'words'),
    [
        (('list', '{}/nowhere'), ['nowhere', 'does not exist']),
        (('list', '{}', '--where', 'lr ?'), ['KEY OP VALUE']),
        (('list', '{}', '--sort', 'optim_wrapper.lt'), ['optim_wrapper.lr']),
        (('list', '{}', '--watch'), ['terminal']),
        (('show', '{}'), ['no work dir']),
        (('note', '{}', 'text'), ['run.json', 'does not exist']),
        (('note', '{}/one', '--graded', '{}/one/run.json'), ['grade_submission.py']),
        (('export', '{}', '--out', 'table.pdf'), ['.tex', 'table.pdf']),
    ],
)
def test_what_cannot_be_done_is_said_in_a_sentence(run_cli, work_dirs, arguments, words):
    run_cli('runs', *(argument.format(work_dirs) for argument in arguments)).check_refused(*words)
