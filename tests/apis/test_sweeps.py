"""The engine of sweeps, with trainings that are a few lines of Python: what is handed out, continued, pruned and recorded."""

import errno
import itertools
import json
import multiprocessing
import os
import re
import signal
import statistics
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from mmengine.config import Config

from mtl_plugins.config.load import load_config
from mtl_plugins.errors import ConfigError
from mtl_plugins.lab.experiments import clock, launch
from mtl_plugins.lab.experiments.couplings import couplings_of
from mtl_plugins.lab.experiments.definition import read_sweep
from mtl_plugins.lab.experiments.report import write_report
from mtl_plugins.lab.experiments.study import JOURNAL_NAME, SharedStudy
from mtl_plugins.lab.experiments.workers import run_trials, slots
from mtl_plugins.registry import MODELS
from tests.tiny import EPOCH_CONFIG, ROOT

SHIPPED = sorted((ROOT / 'sweeps').glob('*.py'))
README = (ROOT / 'sweeps/README.md').read_text()
METRIC = 'metrics_summary/multitask_unclipped'
LR, SKIP = 'optim_wrapper.optimizer.lr', 'model.decode_head.head.skip_channels'

# A training whose score is `-|log10(lr) + 3| + epoch / 100 + seed / 1000`, and which fails at rates of 1 to 3. It waits while a
# file `wait` lies two folders above its own, and ends when its standard input does, as the real one.
TRAINING = """
import json, math, os, pathlib, select, sys
folder = pathlib.Path(sys.argv[1])
options = json.loads((folder / 'order.json').read_text())['options']
while (folder.parents[1] / 'wait').exists():
    (folder.parents[1] / 'waits').touch()
    if select.select([0], [], [], 0.01)[0] and not os.read(0, 1):
        sys.exit(1)
rate = options.get('optim_wrapper.optimizer.lr', 1e-4)
if rate == 2:
    (folder / 'metrics.csv').write_text('epoch,iter,metrics_summary/multitask_unclipped\\n2,20,nan\\n')
    (folder / 'facts.json').write_text(json.dumps(dict(parameters=7, memory=1.5, device='test')))
    sys.exit(0)
if rate == 3:
    os.kill(os.getpid(), 9)
if rate == 1:
    sys.exit('error: The loss is not finite.')
rows = []
for epoch in range(1, options['train_cfg.max_epochs'] + 1):
    score = -abs(math.log10(rate) + 3) + epoch / 100 + options['randomness.seed'] / 1000
    rows.append(f'{epoch},{epoch * 10},{score}')
    (folder / 'metrics.csv').write_text('epoch,iter,metrics_summary/multitask_unclipped\\n' + '\\n'.join(rows) + '\\n')
(folder / 'facts.json').write_text(json.dumps(dict(parameters=7, memory=1.5, device='test')))
"""


@pytest.fixture
def trainings(monkeypatch):
    """Makes trainings of the lines above; their folders in the order in which they were started."""
    started = []

    def start(folder, environment):
        started.append((folder, dict(environment)))
        with (folder / 'output.txt').open('a') as output:
            command = [sys.executable, '-S', '-c', TRAINING, str(folder)]
            return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=output, stderr=output, start_new_session=True)

    monkeypatch.setattr(launch, 'start_process', start)
    monkeypatch.setattr(launch, 'POLL_SECONDS', 0.01)
    return started


@pytest.fixture
def sweep_file(tmp_path):
    """``sweep_file(space=..., ...)`` writes a sweep of the joint config for two epochs."""

    def write(space, **entries):
        entries = dict(config=str(EPOCH_CONFIG), options={'train_cfg.max_epochs': 2}, metric='multitask_unclipped', **entries)
        path = tmp_path / 'sweep.py'
        path.write_text(f'space = {space!r}\n' + ''.join(f'{key} = {value!r}\n' for key, value in entries.items()))
        return path

    return write


def run(path, work_dir, retry=False, jobs=1):
    """All trials of a sweep file as a start of the tool works on them."""
    sweep = read_sweep(path)
    study = SharedStudy(sweep, work_dir)
    study.enqueue(retry)
    run_trials(study, sweep, work_dir, None, slots(jobs))
    return study


def score(rate, seed=0):
    return -abs(np.log10(rate) + 3) + 0.02 + seed / 1000


def test_a_grid_tries_every_point_once_and_a_failure_stops_nothing(trainings, sweep_file, tmp_path):
    rates, skips, seeds = [1e-2, 1.0, 1e-5], [16, 32], [0, 5]
    path = sweep_file({LR: rates, SKIP: skips}, seeds=seeds)
    study = run(path, tmp_path / 'work')
    trials = study.trials()
    # Seed by seed, in the order of the file.
    expected = [(rate, skip, seed) for seed, (rate, skip) in itertools.product(seeds, itertools.product(rates, skips))]
    assert [(trial.params[LR], trial.params[SKIP], trial.user_attrs['seed']) for trial in trials] == expected
    for trial, (rate, _, seed) in zip(trials, expected, strict=True):
        if rate == 1.0:
            assert trial.state.name == 'FAIL' and trial.user_attrs['error'] == 'The loss is not finite.'
        else:
            assert trial.value == pytest.approx(score(rate, seed)) and trial.intermediate_values.keys() == {50, 100}
    assert len(trainings) == 12

    again = run(path, tmp_path / 'work')
    assert len(trainings) == 12 and [trial.number for trial in again.trials()] == [trial.number for trial in trials]
    # What failed is tried again only when asked for, in its old folder and as a trial of its own.
    retried = run(path, tmp_path / 'work', retry=True)
    assert len(trainings) == 16 and trainings[12][0] == trainings[2][0]
    assert len(retried.trials()) == 12 and max(trial.number for trial in retried.trials()) == 15

    sweep = read_sweep(path)
    names = {path.name for path in write_report(sweep, retried, tmp_path / 'work')}
    pictures = {'score_by_lr.png', 'score_by_skip_channels.png', 'importance.png'}
    assert names == {'trials.json', 'table.md', *pictures}
    table = (tmp_path / 'work/table.md').read_text().splitlines()
    rows = [line for line in table if line.startswith('| ') and line[2].isdigit()]
    values = [score(1e-2, seed) for seed in seeds]
    assert rows[0].startswith(f'| 0.01 | 16 | {np.mean(values):.2f} ± {statistics.stdev(values):.2f} | 2 |') and len(rows) == 6
    assert all('The loss is not finite.' in row for row in rows[4:])
    document = json.loads((tmp_path / 'work/trials.json').read_text())
    # The skips change nothing, the rates everything.
    assert document['importance'][LR] > 0.95 and document['trials'][0]['memory'] == 1.5


def test_the_mean_over_seeds_counts_for_a_drawn_point_and_draws_depend_on_the_number_alone(trainings, sweep_file, tmp_path):
    space = {LR: dict(low=1e-5, high=1e-1, log=True), SKIP: dict(low=8, high=64)}
    path = sweep_file(space, sampler=dict(type='RandomSampler', seed=3), trials=3, seeds=[0, 2])
    trials = run(path, tmp_path / 'one').trials()
    assert len(trials) == len({trial.params[LR] for trial in trials}) == 3
    for trial in trials:
        assert 1e-5 <= trial.params[LR] <= 1e-1 and 8 <= trial.params[SKIP] <= 64 and isinstance(trial.params[SKIP], int)
        assert trial.value == pytest.approx(statistics.mean(score(trial.params[LR], seed) for seed in (0, 2)))
        assert list(trial.intermediate_values) == [25, 50, 75, 100]
    others = run(path, tmp_path / 'two', jobs=2).trials()
    assert [trial.params for trial in others] == [trial.params for trial in trials]


def test_a_trial_that_is_worse_than_the_median_is_pruned(trainings, sweep_file, tmp_path):
    rates = [1e-3, 1e-3 * 2, 1e-6, 1e-3]
    path = sweep_file({LR: rates[:3]}, pruner=dict(type='MedianPruner', n_startup_trials=2))
    trials = run(path, tmp_path / 'work').trials()
    assert [trial.state.name for trial in trials] == ['COMPLETE', 'COMPLETE', 'PRUNED']
    assert list(trials[2].intermediate_values) == [50]


def worker(path, work_dir):
    run(path, work_dir)
    os._exit(0)


def test_a_killed_trial_is_taken_up_with_its_number_and_two_processes_share_the_rest(trainings, sweep_file, tmp_path):
    work_dir = tmp_path / 'work'
    (work_dir / 'trials').mkdir(parents=True)
    (work_dir / 'wait').touch()
    rates = [1e-2, 1e-3, 1e-4, 1e-5, 1e-6]
    path = sweep_file({LR: rates}, sampler=dict(type='GridSampler'))
    fork = multiprocessing.get_context('fork')
    killed = fork.Process(target=worker, args=(path, work_dir))
    killed.start()
    deadline = time.monotonic() + 60
    while not (work_dir / 'waits').exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    os.kill(killed.pid, signal.SIGKILL)
    killed.join()
    (work_dir / 'wait').unlink()

    workers = [fork.Process(target=worker, args=(path, work_dir)) for _ in range(2)]
    for process in workers:
        process.start()
    for process in workers:
        process.join()
        assert process.exitcode == 0
    trials = SharedStudy(read_sweep(path), work_dir).trials()
    assert [(trial.number, trial.params[LR], trial.state.name) for trial in trials] == [
        (number, rate, 'COMPLETE') for number, rate in enumerate(rates)
    ]
    assert [trial.value for trial in trials] == pytest.approx([score(rate) for rate in rates])
    # Nothing was trained twice but the one that was killed.
    attempts = [len(json.loads((work_dir / f'trials/{number:04d}_seed0/attempts.json').read_text())) for number in range(5)]
    assert attempts == [2, 1, 1, 1, 1]


def test_the_budget_is_kept_by_several_workers_and_gpus_are_told_apart(trainings, sweep_file, tmp_path):
    path = sweep_file({LR: dict(low=1e-5, high=1e-1, log=True)}, sampler=dict(type='TPESampler'), trials=5)
    sweep = read_sweep(path)
    study = SharedStudy(sweep, tmp_path / 'work')
    run_trials(study, sweep, tmp_path / 'work', None, slots(gpus=['3', '5']))
    assert len(study.trials()) == len(trainings) == 5
    assert {environment['CUDA_VISIBLE_DEVICES'] for _, environment in trainings} == {'3', '5'}
    assert {environment['OMP_NUM_THREADS'] for _, environment in trainings} == {str(max(1, os.cpu_count() // 2))}


def test_the_spaces_of_the_readme_are_read(sweep_file, tmp_path):
    (text,) = re.findall(r'```python\nspace = (.*?)```', README, re.DOTALL)
    path = sweep_file(0, sampler=dict(type='TPESampler'), trials=1)
    path.write_text(path.read_text().replace('space = 0', f'space = {text}').replace('max_epochs', 'val_interval'))
    sweep = read_sweep(path)
    options = sweep.options_of({item.name: item.first for item in sweep.parameters}, 0)
    optimizer = load_config(sweep.config, options).optim_wrapper.optimizer
    assert optimizer == dict(type='SGD', lr=1e-5, momentum=0.9) and options['train_dataloader.batch_size'] == 4


def test_another_sweep_in_the_same_folder_is_refused(trainings, sweep_file, tmp_path):
    run(sweep_file({LR: [1e-2]}), tmp_path / 'work')
    with pytest.raises(RuntimeError, match='should hold a sweep with the same `space`'):
        run(sweep_file({LR: [1e-2, 1e-3]}), tmp_path / 'work')


def test_a_config_that_changed_under_a_sweep_is_refused(trainings, sweep_file, tmp_path):
    """The trials that had ended kept the scores of the old one, beside those of the new one."""
    base = tmp_path / 'base.py'
    base.write_text(f"_base_ = ['{EPOCH_CONFIG}']\n")
    path = sweep_file({LR: [1e-2]})
    path.write_text(path.read_text().replace(str(EPOCH_CONFIG), str(base)))
    run(path, tmp_path / 'work')
    run(path, tmp_path / 'work')
    base.write_text(f"_base_ = ['{EPOCH_CONFIG}']\ntrain_dataloader = dict(batch_size=3)\n")
    with pytest.raises(ConfigError, match=r'base.py should be as it was .* Give the changed sweep another --work-dir'):
        run(path, tmp_path / 'work')


def test_a_line_that_a_kill_or_a_full_disk_left_unfinished_costs_nothing(trainings, sweep_file, tmp_path, monkeypatch):
    """Nothing could be written behind it: the next line made the journal unreadable for ever."""
    path, journal = sweep_file({LR: [1e-2, 1e-4]}), tmp_path / 'work' / JOURNAL_NAME
    study = SharedStudy(read_sweep(path), tmp_path / 'work')
    study.enqueue()
    whole = journal.read_bytes()
    with journal.open('ab') as file:
        file.write(b'{"op_code":4,"worker')
    assert [trial.params[LR] for trial in run(path, tmp_path / 'work').trials()] == [1e-2, 1e-4]
    assert journal.read_bytes().startswith(whole)

    def full(descriptor):
        os.truncate(journal, os.stat(journal).st_size - 5)
        raise OSError(errno.ENOSPC, 'No space left on device')

    ended = journal.read_bytes()
    monkeypatch.setattr('optuna.storages.journal._file.os.fsync', full)
    with pytest.raises(OSError, match='No space left'):
        study.study.set_user_attr('more', 1)
    assert journal.read_bytes() == ended


def test_what_ends_without_a_score_says_why(trainings, sweep_file, tmp_path):
    trials = run(sweep_file({LR: [2.0, 3.0, 1e-3]}), tmp_path / 'work').trials()
    sentences = [trial.user_attrs.get('error') for trial in trials]
    assert sentences == [f'{METRIC} of the last validation is not a number.', 'The training was ended by SIGKILL.', None]


def test_a_metric_that_is_not_measured_is_a_sentence_before_anything_is_trained(sweep_file):
    """Every trial was trained to its end first."""
    path = sweep_file({LR: [1e-2]})
    path.write_text(path.read_text().replace("'multitask_unclipped'", "'multitask_uncliped'"))
    with pytest.raises(ConfigError, match=r'`metric` of the sweep .* should be a score .* Did you mean `.*multitask_unclipped`'):
        read_sweep(path)


@pytest.mark.parametrize('metric, direction', [('mIoU', 'maximize'), ('SI-logRMSE', 'minimize'), ('depth', 'minimize')])
def test_the_better_direction_is_that_of_the_metric(sweep_file, metric, direction):
    """Errors were maximised unless the file said otherwise."""
    path = sweep_file({LR: [1e-2]})
    path.write_text(path.read_text().replace('multitask_unclipped', metric))
    assert read_sweep(path).direction == direction and read_sweep(path).metric.startswith('metrics_summary/')
    other = dict(maximize='minimize', minimize='maximize')[direction]
    path.write_text(f"{path.read_text()}direction = '{other}'\n")
    with pytest.raises(ConfigError, match=f"`direction` .* should be '{direction}'"):
        read_sweep(path)


def test_a_training_that_went_on_counts_up_to_the_checkpoint_it_went_on_from(tmp_path, monkeypatch):
    now = 1000.0
    monkeypatch.setattr(clock.time, 'time', lambda: now)
    assert clock.begin_attempt(tmp_path) == 1000
    checkpoint = tmp_path / 'epoch_1.pth'
    checkpoint.touch()
    os.utime(checkpoint, (1030, 1030))
    (tmp_path / 'last_checkpoint').write_text(checkpoint.name)
    now = 2000.0
    assert clock.begin_attempt(tmp_path) == 1000
    now = 2012.0
    assert clock.end_attempt(tmp_path) == pytest.approx(30 + 12)


def test_a_training_ends_with_the_process_that_started_it():
    code = 'import time; from mtl_plugins.lab.experiments.training import end_with_parent; end_with_parent(); time.sleep(60)'
    process = subprocess.Popen([sys.executable, '-c', code], stdin=subprocess.PIPE, cwd=ROOT)
    process.stdin.close()
    assert process.wait(30) == 1


@pytest.mark.parametrize('path', SHIPPED, ids=lambda path: path.stem)
def test_a_shipped_sweep_loads_and_its_first_trial_has_a_config(path, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    sweep = read_sweep(path)
    sweep.check()
    first = {item.name: item.first for item in sweep.parameters}
    values = [(item.name, label) for item in sweep.parameters for label in item.labels if item.name == 'latents']
    for name, value in [(None, None), *values]:
        params = {**first, **({name: value} if name else {})}
        with torch.device('meta'):
            assert MODELS.build(load_config(sweep.config, sweep.options_of(params, 0)).model) is not None
    assert sweep.about
    number = len(sweep.points()) or sweep.trials
    assert re.search(rf'^\| `{path.name}` \| .* \| {number} \|$', README, re.MULTILINE)


def test_the_shipped_sweeps_vary_what_they_say():
    sweeps = {path.stem: read_sweep(path) for path in SHIPPED}
    assert set(sweeps) >= {'optimizer_lr', 'batch_size', 'task_weights', 'adaptive_head', 'decoder', 'dino'}
    rates = sweeps['optimizer_lr']
    assert rates.space[LR] == [10.0**-power for power in range(1, 7)] and len(rates.points()) == 18
    (point,) = [point for point in rates.points() if point.params == {'optimizer': 'SGD', LR: 1e-3}]
    for _ in range(2):
        optimizer = load_config(rates.config, rates.options_of(point.params, 0)).optim_wrapper.optimizer
        assert optimizer == dict(type='SGD', lr=1e-3, momentum=0.9)

    batches = sweeps['batch_size']
    for size in (2, 32):
        config = load_config(batches.config, batches.options_of({'batch size': size}, 0))
        assert config.train_dataloader.batch_size == size
        # As many steps for each.
        assert config.train_cfg.max_epochs / size == config.param_scheduler[0].end / size == 1

    weights = sweeps['task_weights']
    config = load_config(weights.config, weights.options_of({'semseg weight': 0.3}, 0))
    assert config.model.task_balancing.weights == dict(semseg=0.3, depth=0.7)
    three = Config(dict(model=dict(tasks=dict(a={}, b={}, c={}))))
    shares = couplings_of(three)['b_weight'](0.5, three)
    assert shares == {f'model.task_balancing.weights.{task}': share for task, share in dict(b=0.5, a=0.25, c=0.25).items()}

    dino = sweeps['dino']
    params = {'teacher temperature': 0.04, 'model.student_temperature': 0.2, 'model.centring': 'mean'}
    assert load_config(dino.config, dino.options_of(params, 0)).default_hooks.dino_schedule.teacher_temperature == [0.04, 0.04]
