"""Sweeps from the command line: tiny trainings to the report, and files that are wrong."""

import io
import json
import os
from pathlib import Path

import cv2
import pytest
from mmengine.hooks import Hook

from mtl_plugins.lab.experiments import workers
from mtl_plugins.lab.experiments.training import train_run
from mtl_plugins.records.metrics_file import read_metrics
from mtl_plugins.registry import HOOKS
from mtl_plugins.utils.cli import explain
from tests.tiny import EPOCH_CONFIG

LR = 'optim_wrapper.optimizer.lr'
SHORT = {'train_cfg.max_epochs': 1, 'param_scheduler.0.end': 1}


@HOOKS.register_module()
class InterruptOnce(Hook):
    """Ctrl-C at the beginning of the second epoch, if a file is there; it is there no more then."""

    def __init__(self, flag: str) -> None:
        self.flag = Path(flag)

    def before_train_epoch(self, runner) -> None:
        if runner.epoch == 1 and self.flag.exists():
            self.flag.unlink()
            raise KeyboardInterrupt


class InThisProcess:
    """In place of a training process: the same training here, when it is asked for the first time whether it has ended."""

    def __init__(self, folder: Path, environment: dict) -> None:
        self.folder, self.returncode, self.stdin = folder, None, io.BytesIO()

    def poll(self) -> int:
        if self.returncode is None:
            self.returncode = 1
            try:
                train_run(json.loads((self.folder / 'order.json').read_bytes()), self.folder)
                self.returncode = 0
            except Exception as error:
                (self.folder / 'output.txt').write_text(f'error: {explain(error) or repr(error)}\n')
        return self.returncode


@pytest.fixture
def in_process(monkeypatch):
    """Trainings without a new process, which would import torch anew."""
    monkeypatch.setattr(workers, 'start_process', InThisProcess)


def test_a_sweep_is_interrupted_and_goes_on_to_its_report_bit_for_bit(
    run_cli, in_process, write_sweep, tiny_config_file, data_root, tmp_path
):
    flag = tmp_path / 'interrupt'
    with tiny_config_file.open('a') as file:
        file.write(f"custom_hooks = [dict(type='InterruptOnce', flag={str(flag)!r})]\n")
        file.write('default_hooks = dict(logger=dict(interval=1), checkpoint=dict(save_best=None))\n')
    space = {LR: [0.01], 'model.backbone.type': ['TinyBackbone', 'NoBackbone']}
    sweep = write_sweep(config=str(tiny_config_file), space=space)

    def start(name, *more):
        return run_cli('sweep', sweep, '--data-root', data_root, '--work-dir', tmp_path / name, *more)

    flag.touch()
    assert start('work').code.startswith('Interrupted. Finished trainings are kept.')
    folder = tmp_path / 'work/trials/lr-0.01-type-TinyBackbone_seed0'
    assert list((tmp_path / 'work/trials').iterdir()) == [folder] and not flag.exists()
    done = start('work').check()
    document = json.loads((tmp_path / 'work/trials.json').read_bytes())
    assert [(trial['number'], trial['state']) for trial in document['trials']] == [(0, 'complete'), (1, 'fail')]
    assert 'NoBackbone' in document['trials'][1]['error'] and 'NoBackbone' in done.out
    # Two attempts, of which the second began where the first had saved.
    sessions = json.loads((folder / 'run.json').read_bytes())['sessions']
    assert [session['from_iter'] > 0 for session in sessions] == [False, True]
    assert len(list(folder.glob('*/vis_data'))) == 2
    for name in ('score_by_lr', 'score_by_type', 'losses'):
        height, width, _ = cv2.imread(str(tmp_path / f'work/{name}.png')).shape
        assert height > 300 and width > 600
    score = document['trials'][0]['score']
    assert (
        f'| 0.01 | TinyBackbone | {document["trials"][0]["parameters"]:,} | {score:.2f} |'
        in (tmp_path / 'work/table.md').read_text()
    )

    # Without interruption, and with only the first trial.
    sweep.write_text(sweep.read_text() + 'trials = 1\n')
    start('straight').check()
    metrics = [read_metrics(tmp_path / name / 'trials' / folder.name / 'metrics.csv') for name in ('work', 'straight')]
    times = [{key for key in row if 'time' in key} for row in metrics[0]]
    assert len(metrics[0]) == 2
    for one, other, timed in zip(*metrics, times, strict=True):
        assert {key: one[key] for key in one.keys() - timed} == {key: other[key] for key in other.keys() - timed}


def test_rows_are_trained_once_each_to_their_targets_and_a_failing_one_is_named(
    run_cli, in_process, write_sweep, tiny_config_file, data_root, tmp_path
):
    rows = {'sound row': {}, 'broken row': dict(options={LR: -1.0})}
    shared = dict(config=str(tiny_config_file), options=SHORT, targets={'mIoU': 0, 'SI-logRMSE': 1000}, val_iters=3)
    sweep = write_sweep(rows=rows, **shared)
    arguments = ('sweep', sweep, '--data-root', data_root, '--work-dir', tmp_path / 'work', '--results', tmp_path / 'out/results')
    run_cli(*arguments).check_refused('1 of 2 trainings failed', 'broken row, seed 0: ', 'Invalid learning rate')
    result = json.loads((tmp_path / 'out/results/sound-row_seed0.json').read_bytes())
    goals = {'train_cfg.val_iters': 3, 'train_cfg.stop_at': {'metrics_summary/semseg': 0.0, 'metrics_summary/depth': 1000.0}}
    assert result['options'] == {**SHORT, **goals, 'randomness.seed': 0} and result['parameters'] > 0
    (session,) = json.loads((tmp_path / 'work/trials/sound-row_seed0/run.json').read_bytes())['sessions']
    assert result['step_seconds'] == pytest.approx(session['train_seconds'] / session['iterations'], abs=1e-3)
    (validation,) = result['validations']
    assert validation['iter'] == 3 and validation['train_seconds'] > 0 and validation['train_cpu_seconds'] > 0
    assert '| sound row | ' in (tmp_path / 'out/table.md').read_text()

    write_sweep(rows={'sound row': {}}, **shared)
    run_cli(*arguments).check()
    assert json.loads((tmp_path / 'out/results/sound-row_seed0.json').read_bytes()) == result


GOOD = f"config = {str(EPOCH_CONFIG)!r}\nspace = {{'{LR}': [0.1]}}\n"
RANGE = GOOD.replace('[0.1]', 'dict(low=0.1, high=1.0)')
ROWS = f"config = {str(EPOCH_CONFIG)!r}\nrows = {{'a': {{}}, 'b': {{}}}}\n"
BAD = {
    'unknown key': (GOOD + 'metrics = 1', 'Unknown key `metrics` in the sweep', 'Did you mean `metric`?'),
    'no space': (f'config = {str(EPOCH_CONFIG)!r}', 'states neither `space` nor `rows`'),
    'no config': (ROWS.replace('config =', '_c ='), "The row 'a' of the sweep", 'states no `config`'),
    'not Python': ('space = {', 'cannot be read: SyntaxError'),
    'no such option': (GOOD.replace('.lr', '.lrate'), 'gives the first trial no valid config', 'takes no `lrate`'),
    'no such option of a row': (ROWS + "rows['b']['options'] = {'lr': 1}", "gives the row 'b' no valid config", 'no key `lr`'),
    'no such config': (GOOD.replace('config =', "config = 'nowhere.py'\n_ ="), 'Config nowhere.py does not exist'),
    'entry': (GOOD.replace('[0.1]', '0.1'), 'takes a list of values', 'is 0.1'),
    'range in a grid': (RANGE, 'is a range, but a grid takes values'),
    'no budget': (RANGE + "sampler = dict(type='TPESampler')", 'needs `trials`: how many points TPESampler draws'),
    'empty range': (RANGE.replace('high=1.0', 'high=0.01') + "sampler = dict(type='TPESampler')\ntrials = 3", '`space[', 'low'),
    'sampler': (GOOD + "sampler = dict(type='TPSSampler')\ntrials = 3", 'is TPSSampler.', 'Did you mean `TPESampler`?'),
    'sampler of a study': (GOOD + "sampler = dict(type='QMCSampler')\ntrials = 3", 'is QMCSampler.', 'Known keys: '),
    'argument': (GOOD + "pruner = dict(type='MedianPruner', warmup=1)", 'cannot be made', 'warmup'),
    'value': (GOOD + "pruner = dict(type='MedianPruner', n_startup_trials=-1)", '`pruner` of', 'cannot be made'),
    'direction': (GOOD + "direction = 'up'", "takes 'maximize' or 'minimize'. Found 'up'"),
    'worst score': (GOOD + "metric = 'SI-logRMSE'\ndirection = 'maximize'", "'minimize' is better for metrics_summary/depth"),
    'no such score': (GOOD + "metric = 'multitask_uncliped'", 'should be a score', 'multitask_unclipped`'),
    'seeds': (GOOD + 'seeds = 3', '`seeds` of the sweep', 'a list of seeds. Found 3'),
    'data': (GOOD + 'data = dict(train=8, val=3)', '`data` of the sweep', 'size'),
    'drawn rows': (ROWS + "sampler = dict(type='TPESampler')\ntrials = 3", 'has rows, but TPESampler draws points'),
    'row': (ROWS + "rows['b']['option'] = {}", "The row 'b' of the sweep", 'config, options, seeds, table, task_balancing'),
    'escapes in a row': (ROWS.replace("'b'", r"'\x1b[2J'"), 'a printable name', r'\x1b'),
    'no balancing': (ROWS + f"rows['b']['task_balancing'] = {str(EPOCH_CONFIG)!r}", 'sets no `task_balancing`'),
    'no such balancing': (ROWS + "rows['b']['task_balancing'] = 'none.py'", 'none.py cannot be read'),
    'alike': (ROWS + "rows['a!'] = {}", "differ by a letter or digit. Found 'a' and 'a!'"),
    'no letter': (ROWS + "rows['-'] = {}", "differ by a letter or digit. Found '-'"),
    'target': (ROWS + 'targets = dict(accuracy=3)\nval_iters = 5', "has a target for 'accuracy'", 'mIoU'),
    'no val_iters': (ROWS + 'targets = dict(mIoU=3)', 'needs both `targets` and `val_iters`'),
    'single tasks': (ROWS + "single_tasks = dict(depth='c')", 'needs a row for each of `single_tasks`', 'Found a, b'),
    'gain metrics': (ROWS + "single_tasks = dict(depth='b')\ngain_metrics = dict(normals={})", '`gain_metrics` of other tasks'),
    'pruned rows': (ROWS + "pruner = dict(type='MedianPruner')", 'needs `metric`, by which its `pruner` goes'),
}


@pytest.mark.parametrize('name', BAD)
def test_a_sweep_that_cannot_be_used_is_one_sentence(run_cli, tmp_path, name):
    text, *words = BAD[name]
    path = tmp_path / 'sweep.py'
    path.write_text(text + '\n')
    run_cli('sweep', path, '--work-dir', tmp_path / 'work').check_refused(*words)
    assert not (tmp_path / 'work').exists() or not os.listdir(tmp_path / 'work')


def test_a_report_without_trials_and_a_baseline_without_data_are_one_sentence(run_cli, write_sweep, tmp_path):
    arguments = ('sweep', write_sweep(rows={'a': {}}, baseline=True), '--work-dir', tmp_path / 'work')
    run_cli(*arguments).check_refused('needs data')
    run_cli(*arguments, '--report-only').check_refused('No trial of the sweep')
    run_cli('sweep', tmp_path / 'none.py').check_refused('There is no sweep file')


# Contents, and what is said of a result.
BROKEN = {
    'cut': (b'{', 'read as JSON'),
    'deep': (b'[' * 100_000, 'levels deep'),
    'list': (b'[]', 'an object'),
    'not finite': (b'{"seed": 0, "metrics": {"a": NaN}}', 'NaN'),
    'text': (b'{"seed": 0, "metrics": {"a": "b"}}', 'a number'),
    'nothing': (b'{"seed": 0}', 'no `metrics`'),
    'numbers': (b'{"seed": 0, "metrics": {}, "date": 3}', 'date'),
}


@pytest.mark.parametrize('name', BROKEN)
@pytest.mark.parametrize('file', ['results/a_seed0.json', 'points/a_seed0', 'results/per-position-baseline.json'])
def test_a_broken_file_of_a_sweep_is_one_sentence(run_cli, write_sweep, tmp_path, name, file):
    content, words = BROKEN[name]
    whole = dict(seed=0, parameters=1, metrics={}, date='', device='', versions=dict(torch=''), commit='')
    for path, data in (('results/a_seed0.json', json.dumps(whole).encode()), (file, content)):
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).write_bytes(data)
    result = run_cli('sweep', write_sweep(rows={'a': {}}, baseline=True), '--work-dir', tmp_path, '--report-only')
    # A note says nothing of its own, and a baseline nothing but scores.
    if file == 'results/a_seed0.json':
        result.check_refused('a_seed0.json', words)
    elif name in list(BROKEN)[:4] or (name == 'text' and 'baseline' in file):
        result.check_refused(file.rpartition('/')[2])
    else:
        result.check()
