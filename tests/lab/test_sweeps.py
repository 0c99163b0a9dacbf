"""The points of sweeps, with trainings that are a few lines of Python: what is handed out, continued, pruned and recorded."""

import itertools
import json
import math
import multiprocessing
import os
import re
import signal
import statistics
import subprocess
import sys

import numpy as np
import optuna
import pytest
import torch

from mtl_plugins.config.load import load_config
from mtl_plugins.errors import ConfigError, UserError
from mtl_plugins.lab.experiments import workers
from mtl_plugins.lab.experiments.definition import read_sweep
from mtl_plugins.lab.experiments.points import Points
from mtl_plugins.lab.experiments.report import write_report
from mtl_plugins.lab.experiments.results import ensure_baseline
from mtl_plugins.lab.experiments.workers import run_points, slots
from mtl_plugins.records.config_data import as_data
from mtl_plugins.registry import MODELS, TASK_UTILS
from mtl_plugins.utils.files import replacing
from tests.tiny import EPOCH_CONFIG, ROOT

SHIPPED = sorted((ROOT / 'sweeps').glob('*.py'))
README = (ROOT / 'sweeps/README.md').read_text(encoding='utf-8')
LR, SKIP = 'optim_wrapper.optimizer.lr', 'model.decode_head.head.skip_channels'
METRIC = 'metrics_summary/multitask_unclipped'
RANGE = {LR: dict(low=1e-5, high=1e-1, log=True)}

RECORD = dict(
    parameters=7, memory_mib=1.5, memory_of='gpu', seconds=3.0, started='2026-01-01', code=dict(commit='0123456789'),
    device=dict(name='test'), versions=dict(torch='2'), progress=dict(max_iters=20),
)  # fmt: skip


class Trained:
    """A training that ends at once, with a score of `-|log10(lr) + 3| + epoch / 100 + seed / 1000`; rates of 1 to 3 fail."""

    stdin = open(os.devnull)

    def __init__(self, folder, environment):
        options = json.loads((folder / 'order.json').read_bytes())['options']
        rate, rows = options.get(LR, 1e-4), [f'epoch,iter,{METRIC}']
        for epoch in range(1, options['train_cfg.max_epochs'] + 1):
            score = -abs(math.log10(rate) + 3) + epoch / 100 + options['randomness.seed'] / 1000
            rows.append(f'{epoch},{epoch * 10},{math.nan if rate == 2 else score}')
        attempts = (folder / 'attempts').read_text() if (folder / 'attempts').exists() else ''
        texts = {'attempts': f'{attempts}.', 'metrics.csv': '\n'.join(rows), 'run.json': json.dumps(RECORD)}
        texts['output.txt'] = 'error: The loss is not finite.' if rate == 1 else ''
        for name, text in texts.items():
            with replacing(folder / name) as temporary:
                temporary.write_text(text)
        self.returncode, self.ended = {1: 1, 3: -signal.SIGKILL}.get(rate, 0), False

    def poll(self):
        # Others have their turn before it is known to have ended.
        ended, self.ended = self.ended, True
        return self.returncode if ended else None


@pytest.fixture
def trainings(monkeypatch):
    """Makes trainings of those; their folders and environments in the order in which they were started."""
    started = []

    def start(folder, environment):
        started.append((folder, dict(environment)))
        return Trained(folder, environment)

    monkeypatch.setattr(workers, 'start_process', start)
    monkeypatch.setattr(workers, 'POLL_SECONDS', 0.01)
    return started


@pytest.fixture
def sweep_file(write_sweep):
    """``sweep_file(space, ...)`` writes a sweep of the joint config for two epochs."""
    shared = dict(options={'train_cfg.max_epochs': 2}, metric='multitask_unclipped')
    return lambda space=None, **entries: write_sweep(space=space, **{**shared, **entries})


def run(path, work_dir, retry=False, environments=None):
    points = Points(read_sweep(path), work_dir, work_dir / 'results')
    if retry:
        points.retry()
    run_points(points, None, environments or slots())
    return points


def score(rate, seed=0):
    return -abs(np.log10(rate) + 3) + 0.02 + seed / 1000


def test_a_grid_tries_every_point_once_and_a_failure_stops_nothing(trainings, sweep_file, tmp_path):
    rates, skips, seeds = [1e-2, 1.0, 1e-5], [16, 32], [0, 5]
    path = sweep_file({LR: rates, SKIP: skips}, seeds=seeds)
    records = run(path, tmp_path / 'work').records()
    # Seed by seed, in the order of the file.
    expected = [(rate, skip, seed) for seed, (rate, skip) in itertools.product(seeds, itertools.product(rates, skips))]
    assert [(record['params'][LR], record['params'][SKIP], record['seeds'][0]) for record in records] == expected
    for record, (rate, _, seed) in zip(records, expected, strict=True):
        if rate == 1.0:
            assert (record['state'], record['error']) == ('fail', 'The loss is not finite.')
        else:
            assert record['score'] == pytest.approx(score(rate, seed)) and record['state'] == 'complete'
    assert len(trainings) == 12

    run(path, tmp_path / 'work')
    assert len(trainings) == 12
    # What failed is tried again only when asked for, in its old folder.
    retried = run(path, tmp_path / 'work', retry=True)
    assert len(trainings) == 16 and trainings[12][0] == trainings[2][0]
    assert [record['state'] for record in retried.records()].count('fail') == 4

    names = {path.name for path in write_report(retried)}
    assert names == {'trials.json', 'table.md', 'score_by_lr.png', 'score_by_skip_channels.png'}
    table = (tmp_path / 'work/table.md').read_text(encoding='utf-8').splitlines()
    rows = [line for line in table if line.startswith('| ') and line[2].isdigit()]
    values = [score(1e-2, seed) for seed in seeds]
    spread = f'{np.mean(values):.2f} ± {statistics.stdev(values):.2f}'
    assert rows[0] == f'| 0.01 | 16 | 7 | {spread} | 3 ± 0 | 2 ± 0 | 2 |  |' and len(rows) == 6
    assert all('The loss is not finite.' in row for row in rows[4:])
    document = json.loads((tmp_path / 'work/trials.json').read_text())
    assert document['trials'][0]['memory'] == 1.5


def test_the_mean_over_seeds_counts_for_a_drawn_point_and_draws_depend_on_the_number_alone(trainings, sweep_file, tmp_path):
    space = {**RANGE, SKIP: dict(low=8, high=64)}
    path = sweep_file(space, sampler=dict(type='RandomSampler', seed=3), trials=3, seeds=[0, 2])
    records = run(path, tmp_path / 'one').records()
    assert len({record['params'][LR] for record in records}) == 3
    for record in records:
        rate, skip = record['params'][LR], record['params'][SKIP]
        assert 1e-5 <= rate <= 1e-1 and 8 <= skip <= 64 and isinstance(skip, int)
        assert record['score'] == pytest.approx(statistics.mean(score(rate, seed) for seed in (0, 2)))
    others = run(path, tmp_path / 'two', environments=slots(2)).records()
    assert [record['params'] for record in others] == [record['params'] for record in records]


def test_draws_and_pruning_are_those_of_a_study_that_lasts(trainings, sweep_file, tmp_path):
    more, halving = dict(n_startup_trials=4, multivariate=True), dict(min_resource=50, reduction_factor=2)
    sampler, pruner = dict(type='TPESampler', seed=5, **more), dict(type='SuccessiveHalvingPruner', **halving)
    space = {**RANGE, 'train_dataloader.batch_size': [2, 4]}
    path = sweep_file(space, sampler=sampler, pruner=pruner, trials=12)
    records = run(path, tmp_path / 'work').records()
    study_pruner = optuna.pruners.SuccessiveHalvingPruner(**halving)
    study = optuna.create_study(direction='maximize', pruner=study_pruner, study_name='sweep')
    states = []
    for number in range(12):
        seed = np.random.SeedSequence([5, number]).generate_state(1)[0]
        study.sampler = optuna.samplers.TPESampler(seed=int(seed), **more)
        trial = study.ask()
        rate = trial.suggest_float(LR, **RANGE[LR])
        trial.suggest_categorical('train_dataloader.batch_size', [2, 4])
        trial.report(score(rate) - 0.01, 50)
        states.append('pruned' if trial.should_prune() else 'complete')
        if states[-1] == 'pruned':
            study.tell(trial, state=optuna.trial.TrialState.PRUNED)
        else:
            trial.report(score(rate), 100)
            study.tell(trial, score(rate))
    assert [record['params'] for record in records] == [trial.params for trial in study.trials]
    assert [record['state'] for record in records] == states and len(set(states)) == 2


@pytest.mark.parametrize('drawn', [False, True])
def test_two_processes_share_the_points(trainings, sweep_file, tmp_path, drawn):
    work_dir, rates = tmp_path / 'work', [1e-2, 1e-3, 1e-4, 1e-5, 1e-6]
    work_dir.mkdir()
    path = sweep_file(RANGE, sampler=dict(type='RandomSampler'), trials=5) if drawn else sweep_file({LR: rates})
    processes = [multiprocessing.get_context('fork').Process(target=run, args=(path, work_dir)) for _ in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
        assert process.exitcode == 0
    records = Points(read_sweep(path), work_dir, work_dir / 'results').records()
    tried = [record['params'][LR] for record in records]
    assert [record['state'] for record in records] == ['complete'] * 5 and (drawn or tried == rates)
    assert [record['score'] for record in records] == pytest.approx([score(rate) for rate in tried])
    # Nothing was trained twice; tests/test_kills.py kills them.
    assert [len(path.read_text()) for path in (work_dir / 'trials').glob('*/attempts')] == [1] * 5


def test_the_budget_is_kept_by_several_workers_and_gpus_are_told_apart(trainings, sweep_file, tmp_path):
    path = sweep_file(RANGE, sampler=dict(type='TPESampler'), trials=5)
    points = run(path, tmp_path / 'work', environments=slots(gpus=['3', '5']))
    assert len(points.records()) == len(trainings) == 5
    assert {environment['CUDA_VISIBLE_DEVICES'] for _, environment in trainings} == {'3', '5'}
    assert {environment['OMP_NUM_THREADS'] for _, environment in trainings} == {str(max(1, os.cpu_count() // 2))}


def test_the_spaces_of_the_readme_are_read(sweep_file):
    (text,) = re.findall(r'```python\nspace = (.*?)```', README, re.DOTALL)
    path = sweep_file(0, sampler=dict(type='TPESampler'), trials=1)
    path.write_text(path.read_text().replace('space = 0', f'space = {text}').replace('max_epochs', 'val_interval'))
    sweep = read_sweep(path)
    options = sweep.point(0, '', (0,), {item.name: item.first for item in sweep.parameters}).options
    optimizer = load_config(sweep.config, options).optim_wrapper.optimizer
    assert optimizer == dict(type='SGD', lr=1e-5, momentum=0.9) and options['train_dataloader.batch_size'] == 4


def test_draws_go_on_only_with_the_sweep_that_began_them(trainings, sweep_file, tmp_path):
    base = tmp_path / 'base.py'
    base.write_text(f"_base_ = ['{EPOCH_CONFIG}']\n")
    drawn = dict(config=str(base), sampler=dict(type='RandomSampler'), trials=1)
    run(sweep_file(RANGE, **drawn), tmp_path / 'work')
    run(sweep_file(RANGE, **drawn, pruner=dict(type='NopPruner')), tmp_path / 'work')
    assert len(run(sweep_file(RANGE, **{**drawn, 'trials': 2}), tmp_path / 'work').records()) == 2
    with pytest.raises(ConfigError, match=r'drawn with another `space`\. Give the changed sweep another --work-dir'):
        run(sweep_file({LR: dict(low=0.1, high=0.2)}, **drawn), tmp_path / 'work')
    with pytest.raises(ConfigError, match='drawn with another `seeds`'):
        run(sweep_file(RANGE, **drawn, seeds=[1]), tmp_path / 'work')
    base.write_text(f"_base_ = ['{EPOCH_CONFIG}']\ntrain_dataloader = dict(batch_size=3)\n")
    with pytest.raises(ConfigError, match=r'drawn with another content of .*base.py'):
        run(sweep_file(RANGE, **drawn), tmp_path / 'work')


def test_a_result_that_was_made_otherwise_is_made_again(trainings, sweep_file, tmp_path, capsys):
    config, rows = tmp_path / 'config.py', {'a': {}, 'b': {}}
    config.write_text(f"_base_ = ['{EPOCH_CONFIG}']\n")
    entries = dict(config=str(config), metric=None, rows=rows)

    def again(**changes):
        trainings.clear()
        entries.update(changes)
        write_report(run(sweep_file(**entries), tmp_path / 'work'))
        return [folder.name for folder, _ in trainings]

    assert again() == ['a_seed0', 'b_seed0'] and again() == []
    assert again(rows={'a': {}, 'b': dict(options={'train_cfg.val_interval': 1})}) == ['b_seed0'] and again() == []
    assert 'b_seed0.json was made with another `options` than the sweep states, and is made again.' in capsys.readouterr().out
    data = dict(train=9, val=3, test=0, size=[32, 64], seed=0)
    assert again(data=data) == again(amp=True) == ['a_seed0', 'b_seed0'] and again() == []
    config.write_text(f"_base_ = ['{EPOCH_CONFIG}']\ntrain_dataloader = dict(batch_size=3)\n")
    with pytest.raises(UserError, match=r'a_seed0.json was made with another `config_hash` than .* remove the file'):
        write_report(Points(read_sweep(sweep_file(**entries)), tmp_path / 'work', tmp_path / 'work/results'))
    assert again() == ['a_seed0', 'b_seed0'] and again() == []
    # A row comes and one goes; one that failed is tried again once it is another.
    assert again(rows={'a': {}, 'c': dict(options={LR: 1.0})}) == ['c_seed0'] and again() == []
    assert again(rows={'a': {}, 'c': dict(options={LR: 0.1})}) == ['c_seed0']


def test_the_baseline_of_other_data_is_fitted_again(sweep_file, tmp_path, data_root):
    path = tmp_path / 'baseline.json'
    for size in (8, 7):
        sweep = read_sweep(sweep_file({LR: [0.1]}, data=dict(train=size, val=3, test=0, size=[32, 64], seed=0)))
        ensure_baseline(sweep, path, data_root)
        document = json.loads(path.read_bytes())
        assert document['data']['train'] == size and document['metrics']['metrics_summary/semseg'] > 0


def test_what_ends_without_a_score_says_why(trainings, sweep_file, tmp_path):
    records = run(sweep_file({LR: [2.0, 3.0, 1e-3]}), tmp_path / 'work').records()
    sentences = [f'{METRIC} of the last validation is not a number.', 'The training was ended by SIGKILL.', None]
    assert [record['error'] for record in records] == sentences
    # Read from its file, as the next start does.
    assert run(sweep_file({LR: [2.0]}), tmp_path / 'work').records()[0]['error'] == sentences[0]
    # The config cannot say what the losses of a task are called.
    (record,) = run(sweep_file({LR: [1e-2]}, metric='val/semseg/loss_other'), tmp_path / 'other').records()
    assert record['state'] == 'fail' and 'No validation measures `metric`' in record['error']


def test_a_training_ends_with_the_process_that_started_it():
    code = 'import time; from mtl_plugins.lab.experiments.training import end_with_parent; end_with_parent(); time.sleep(60)'
    process = subprocess.Popen([sys.executable, '-c', code], stdin=subprocess.PIPE, cwd=ROOT)
    process.stdin.close()
    assert process.wait(30) == 1


@pytest.mark.parametrize('path', SHIPPED, ids=lambda path: path.stem)
def test_a_shipped_sweep_loads_and_its_rows_have_configs(path, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    sweep = read_sweep(path)
    assert sweep.about and re.search(rf'^\| `{path.name}` \| .* \| {len(sweep.points)} \|$', README, re.MULTILINE)
    first = {item.name: item.first for item in sweep.parameters}
    others = [{item.name: label} for item in sweep.parameters for label in item.choices if item.name == 'latents']
    for row, changes in itertools.product(sweep.rows, [{}, *others]):
        point = sweep.point(0, row, (0,), {**first, **changes})
        config = sweep.load(point.config, point.options_of(0))
        # The schedule ends no sooner than the training.
        ends = [scheduler.end for scheduler in config.param_scheduler or () if scheduler.get('by_epoch', True)]
        assert not ends or ends[-1] >= config.train_cfg.max_epochs
        if sweep.space:
            with torch.device('meta'):
                assert MODELS.build(config.model) is not None


@pytest.mark.parametrize('name', ['task_balancing', 'three_tasks'])
def test_a_network_of_one_task_is_the_network_of_all_with_this_task_alone(name):
    pytest.importorskip('torchjd')
    sweep = read_sweep(ROOT / f'sweeps/{name}.py')
    alone = {row: task for task, row in sweep.single_tasks.items()}
    assert len(sweep.rows) >= len(alone) + 12 and len(sweep.seeds) == 3
    configs = {}
    for row in sweep.rows:
        point = sweep.point(0, row, (0,), {})
        configs[row] = load_config(str(ROOT / point.config), point.options)
        tasks = [alone[row]] if row in alone else list(sweep.single_tasks)
        assert list(configs[row].model.tasks) == configs[row].train_dataloader.dataset.tasks == tasks
        TASK_UTILS.build({**configs[row].model.task_balancing, 'tasks': tasks})
    for row, task in alone.items():
        own, shared = (as_data(configs[name].model.tasks[task]) for name in (row, 'equal weights'))
        assert own == shared
        assert configs[row].model.task_balancing.type == 'FixedWeights'
