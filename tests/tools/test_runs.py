"""Records of runs: what a training writes, and what `tools/runs.py` and its parts make of it."""

import csv
import io
import json
import os
import pty
import random
import select as waiting
import signal
import subprocess
import sys
import time
import zipfile
from types import SimpleNamespace

import numpy as np
import pytest

from mtl_plugins.apis.train import train
from mtl_plugins.engine.hooks.run_record_hook import RunRecordHook
from mtl_plugins.errors import ConfigError, CorruptFileError, DataNotFoundError
from mtl_plugins.lab.runs.query import differing_keys, headings, select
from mtl_plugins.lab.runs.tables import make_table, score_sheet
from mtl_plugins.lab.runs.training_log import read_scalars, wall_hours
from mtl_plugins.lab.runs.work_dirs import find_runs, read_run
from mtl_plugins.lab.tables import to_csv, to_latex, to_markdown, to_plain
from mtl_plugins.records.config_data import hash_config
from mtl_plugins.records.metrics_file import read_metrics
from mtl_plugins.records.record import LOCK_NAME, RECORD_NAME, read_record_file, training_time
from mtl_plugins.records.recording import Terminated, change_record, recorded_session, start_session
from mtl_plugins.utils.files import hold_lock
from tests.tiny import ROOT, tiny_config

MULTITASK = 'metrics_summary/multitask'


@pytest.fixture(scope='module')
def trained(data_root, tmp_path_factory):
    """Work dir of two epochs, killed by an error in the middle of the first start and resumed."""
    work_dir = tmp_path_factory.mktemp('runs') / 'run'
    config = tiny_config(data_root, work_dir, train_cfg__max_epochs=1)
    config.submission.enabled = False
    train(config)
    first = read_record_file(work_dir)
    change_record(work_dir, lambda record: record.update(note='mine', of_the_future=[1]))
    config = tiny_config(data_root, work_dir, train_cfg__max_epochs=2)
    config.resume = True
    train(config)
    return work_dir, first


def _write(folder, **fields):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / RECORD_NAME).write_text(json.dumps(dict(state='finished', started=folder.name) | fields))
    return folder


def test_a_training_and_its_resume_are_one_record(trained):
    work_dir, first = trained
    record = read_record_file(work_dir)
    rows = [{k: float(v) for k, v in row.items() if k not in ('epoch', 'iter')} for row in read_metrics(work_dir / 'metrics.csv')]
    assert record['last_scores'] == rows[-1]
    # All multitask scores are 0 after two epochs: the larger unclipped sum is the better.
    assert record['scores'] == max(rows, key=lambda row: row['metrics_summary/multitask_unclipped'])
    assert record['best']['epoch'] == int(record['checkpoints']['best'].split('epoch_')[1].removesuffix('.pth'))
    assert [row['epoch'] for row in record['validations']] == [1, 2]
    assert [(s['from_iter'], s['iterations'], s['state']) for s in record['sessions']] == [(0, 4, 'finished'), (4, 4, 'finished')]
    assert record['seconds'] == pytest.approx(sum(session['seconds'] for session in record['sessions']))
    assert record['started'] == first['started'] and record['run_name'] == first['run_name']
    assert (record['note'], record['of_the_future']) == ('mine', [1])
    assert record['state'] == 'finished' and record['progress']['iter'] == record['progress']['max_iters'] == 8
    assert first['archive'] is None
    with zipfile.ZipFile(work_dir / record['archive']) as archive:
        logs = [name for name in archive.namelist() if name.startswith('logs/')]
    assert logs == [f'logs/{path.name}' for path in sorted(work_dir.glob('*/*.log'))] and len(logs) == 2
    assert record['parameters'] == first['parameters'] > 0 and record['flops'] == first['flops'] > 0
    assert record['flops_size'] == [32, 32] and record['memory_mib'] > 100
    assert record['data']['train']['samples'] == 8 and record['data'] == first['data']
    assert record['config']['train_cfg']['max_epochs'] == 2


def test_power_is_the_mean_of_the_samples_of_all_sessions_where_the_device_tells_it(trained, monkeypatch):
    assert read_record_file(trained[0])['power_watts'] is None
    hook = RunRecordHook()
    hook._earlier_sessions = [dict(power_watts=100.0, power_samples=1), dict(power_watts=None, power_samples=0), {}]
    hook._session = dict(power_watts=None, power_samples=0)
    monkeypatch.setattr('torch.cuda.is_available', lambda: True)
    for milliwatts in (200_000, 260_000):
        monkeypatch.setattr('torch.cuda.power_draw', lambda value=milliwatts: value)
        hook._look_at_power()
    assert hook._session == dict(power_watts=230.0, power_samples=2)
    # As without the package of NVML.
    monkeypatch.delattr('torch.cuda.power_draw')
    hook._look_at_power()
    assert hook._mean_power() == pytest.approx((100 + 200 + 260) / 3, abs=0.05)


def test_errors_and_signals_end_in_the_record(tmp_path):
    config = dict(randomness=dict(seed=3))
    with pytest.raises(ZeroDivisionError), recorded_session(tmp_path, config, None):
        assert read_run(tmp_path).data['state'] == 'running'
        raise ZeroDivisionError('division')
    with pytest.raises(ConfigError), recorded_session(tmp_path, config, None):
        raise ConfigError('The sentence.')
    with pytest.raises(KeyboardInterrupt), recorded_session(tmp_path, config, None):
        raise KeyboardInterrupt
    with pytest.raises(Terminated), recorded_session(tmp_path, config, None):
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(10)
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    sessions = [(session['state'], session['error']) for session in read_record_file(tmp_path)['sessions']]
    assert sessions == [
        ('failed', 'ZeroDivisionError: division'), ('failed', 'The sentence.'), ('interrupted', None), ('interrupted', None),
    ]  # fmt: skip


def test_a_mistake_before_the_first_step_leaves_no_run(tmp_path):
    with pytest.raises(ConfigError), recorded_session(tmp_path, {}, None):
        raise ConfigError('The path is wrong.')
    assert find_runs([tmp_path]) == []


def test_a_killed_run_is_found_by_its_lock(tmp_path):
    start_session(tmp_path, {}, None)
    code = (
        'import sys, time; from pathlib import Path; from mtl_plugins.utils.files import hold_lock\n'
        'assert hold_lock(Path(sys.argv[1])); print("held", flush=True); time.sleep(60)'
    )
    with subprocess.Popen([sys.executable, '-c', code, tmp_path / LOCK_NAME], stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b'held\n'
        assert read_run(tmp_path).state == 'running'
        process.kill()
    assert read_run(tmp_path).state == 'killed'
    start_session(tmp_path, {}, None)
    assert [session['state'] for session in read_record_file(tmp_path)['sessions']] == ['killed', 'running']


def test_the_hash_is_of_what_matters():
    config = dict(randomness=dict(seed=0), work_dir='a', model=dict(depth=18), train_dataloader=dict(dataset=dict(data_root='d')))
    same = dict(config, work_dir='b', randomness=dict(seed=1), train_dataloader=dict(num_workers=4, dataset=dict(data_root='e')))
    assert hash_config(config) == hash_config(same)
    assert hash_config(config) != hash_config(dict(config, model=dict(depth=34)))


def test_conditions_are_those_of_python(tmp_path):
    rng = random.Random(0)
    runs = []
    for index in range(40):
        optimizer = dict(lr=10 ** rng.uniform(-5, -1), type=rng.choice(['SGD', 'Adam']))
        scores = {MULTITASK: rng.uniform(0, 30), 'metrics_task_semseg/traffic light': rng.uniform(0, 1)}
        config = dict(optim_wrapper=dict(optimizer=optimizer), model=dict(parts=[dict(width=rng.choice([1, 2]))]))
        fields = dict(config=config, scores=scores, note=rng.choice(['', 'Good one']), seed=rng.choice([0, 1, None]))
        runs.append(read_run(_write(tmp_path / str(index), **fields)))
    lr, kind = 'optim_wrapper.optimizer.lr', 'optim_wrapper.optimizer.type'
    references = {
        f'{lr}<1e-3': lambda run: run.config['optim_wrapper']['optimizer']['lr'] < 1e-3,
        f'scores.{MULTITASK}>10': lambda run: run.scores[MULTITASK] > 10,
        'multitask <= 10 and seed = 1': lambda run: run.scores[MULTITASK] <= 10 and run.data['seed'] == 1,
        'seed=none': lambda run: run.data['seed'] is None,
        'seed>=0': lambda run: run.data['seed'] is not None,
        f'{kind}!=SGD and seed=0': lambda run: (
            run.config['optim_wrapper']['optimizer']['type'] == 'Adam' and run.data['seed'] == 0
        ),
        'scores.metrics_task_semseg/traffic light > 0.5': lambda run: run.scores['metrics_task_semseg/traffic light'] > 0.5,
        'note ~ "good o"': lambda run: 'Good o' in run.data['note'],
        'model.parts.0.width == 2': lambda run: run.config['model']['parts'][0]['width'] == 2,
    }
    for text, reference in references.items():
        expected = [run.path for run in runs if reference(run)]
        assert 0 < len(expected) < len(runs), text
        assert [run.path for run in select(runs, [text])] == expected, text
    ordered = [run.scores[MULTITASK] for run in select(runs, [], 'multitask')]
    assert ordered == sorted(ordered, reverse=True)
    with pytest.raises(ConfigError, match=r'optim_wrapper\.optimizer\.lr'):
        select(runs, ['optim_wrapper.optimiser.lr<1'])


def test_a_condition_that_cannot_be_read_is_refused():
    texts = [
        '',
        'seed',
        'seed<',
        '(seed=1',
        'seed=1 seed=2',
        '__import__("os")',
        'seed=1)',
        'seed=1 or seed=2',
        'seed=1 and',
        'a="b',
    ]
    for text in texts:
        with pytest.raises(ConfigError, match='KEY OP VALUE'):
            select([], [text])


def test_only_what_differs_is_a_column(tmp_path):
    configs = (
        dict(
            model=dict(head=dict(type='A', width=1, bins=3), depth=18),
            work_dir='a',
            optim_wrapper=dict(lr=1),
            param_scheduler=[dict(type='PolyLR', end=9)],
        ),
        dict(
            model=dict(head=dict(type='B', width=2), depth=18),
            work_dir='b',
            optim_wrapper=dict(lr=2),
            param_scheduler=[dict(type='LinearLR', end=2)],
        ),
    )
    runs = [read_run(_write(tmp_path / str(index), config=config)) for index, config in enumerate(configs)]
    keys = differing_keys(runs)
    # Ends of different schedules are not one quantity.
    assert keys == ['model.head.type', 'model.head.width', 'optim_wrapper.lr', 'param_scheduler.0.type']
    assert headings(keys, runs) == ['head.type', 'width', 'lr', 'param_scheduler.0.type']
    assert headings(['a.x.lr', 'b.x.lr', 'p.1']) == ['a.x.lr', 'b.x.lr', 'p.1']


def test_tables_are_escaped(tmp_path):
    note = 'a|b & 5% of "x_y", {\\alpha}~^$#<>\nnext'
    _write(tmp_path / 'a', note=note, scores={MULTITASK: 1 / 3})
    runs = [read_run(_write(tmp_path / 'b', scores={MULTITASK: 12.0}, run_name='T00', task='2a', graded={MULTITASK: 7.0}))]
    table = make_table([read_run(tmp_path / 'a'), *runs], ['note', 'multitask'])
    rows = list(csv.reader(io.StringIO(to_csv(table))))
    assert rows == [['run', 'note', 'multitask'], ['a', note, repr(1 / 3)], ['b', '', '12.0']]
    latex = to_latex(table).splitlines()
    printed = r'a & a|b \& 5\% of "x\_y", \{\textbackslash{}alpha\}\textasciitilde{}\textasciicircum{}\$\#'
    printed += r'\textless{}\textgreater{} next'
    assert latex[4] == rf'{printed} & 0.3333 \\' and latex[0] == r'\begin{tabular}{llr}'
    assert to_markdown(table).splitlines()[2].startswith(r'| a | a\|b & 5% of "x_y", {\\alpha}~^$#<> next |')
    assert to_plain(table).splitlines()[2].split() == ['b', '12']
    assert list(csv.DictReader(io.StringIO(score_sheet(runs)))) == [
        {
            'task': '2a', 'run name': 'T00', 'notes': '',
            'validation multitask': '12.0', 'validation semseg': '', 'validation depth': '',
            'grader multitask': '7.0', 'grader semseg': '', 'grader depth': '',
        }
    ]  # fmt: skip


def write_log(run, start, *lines):
    folder = run / start / 'vis_data'
    folder.mkdir(parents=True)
    (folder / 'scalars.json').write_text('\n'.join(line if isinstance(line, str) else json.dumps(line) for line in lines) + '\n')


def test_a_resumed_run_replaces_what_it_did_again_and_a_line_that_was_cut_off_is_no_error(tmp_path):
    first = [
        dict(iter=10, loss=5.0),
        dict(step=10, score=1.0),
        dict(iter=20, loss=4.0),
        dict(iter=30, loss=9.0),
        '{"iter": 40, "lo',
    ]
    write_log(tmp_path, '20260101_000000', *first)
    write_log(tmp_path, '20260102_000000', dict(iter=20, loss=3.0), dict(iter=30, loss=2.0))
    assert [(row['iter'], row['loss']) for row in read_scalars(tmp_path)] == [(10, 5.0), (20, 3.0), (30, 2.0)]
    write_log(tmp_path, '20260103_000000', 'no json', dict(iter=40))
    with pytest.raises(CorruptFileError, match=r'Line 1 of .*no json'):
        read_scalars(tmp_path)
    assert read_scalars(tmp_path / 'nowhere') == []


def test_hours_are_those_of_the_record_or_else_median_seconds_times_iterations(tmp_path):
    with pytest.raises(DataNotFoundError, match='has neither validations in'):
        wall_hours(tmp_path, np.array([1]))
    # One iteration that waited for something else must not count for the fifty around it.
    write_log(tmp_path, '20260101_000000', *(dict(iter=50 * n, time=seconds) for n, seconds in enumerate((2, 2, 90, 2, 2), 1)))
    np.testing.assert_allclose(wall_hours(tmp_path, np.array([0, 900, 1800])), [0, 0.5, 1], rtol=1e-12)
    validations = [dict(epoch=1, iter=100, seconds=3600), dict(epoch=2, iter=200, seconds=10800)]
    (tmp_path / 'run.json').write_text(json.dumps(dict(validations=validations)))
    np.testing.assert_allclose(wall_hours(tmp_path, np.array([0, 50, 100, 150, 200, 300])), [0, 0.5, 1, 2, 3, 4.5], rtol=1e-12)


def test_iterations_that_were_done_twice_count_once():
    """A training that was killed at iteration 130 and went on from the checkpoint of 100, twice, the first time for nothing."""
    sessions = [
        dict(from_iter=0, iterations=130, train_seconds=13.0),
        dict(from_iter=100, iterations=0, train_seconds=0.5),
        dict(from_iter=100, iterations=50, train_seconds=8.0),
    ]
    assert training_time(sessions) == pytest.approx(10.0 + 8.0)
    assert training_time(sessions[-1:]) == 8.0


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
    result = run_cli('runs', 'list', work_dirs, '--sort', 'mIoU', '--where', 'mIoU > 1').check()
    header, *rows = (line.split() for line in result.out.splitlines())
    assert header == ['run', 'state', 'epoch', 'mIoU', 'SI-logRMSE', 'multitask', 'lr']
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
        while waiting.select([ours], [], [], 30)[0] and time.monotonic() < deadline:
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
