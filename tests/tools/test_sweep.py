"""Sweeps from the command line: tiny trainings to the report, SLURM, Weights & Biases, and files that are wrong."""

import io
import json
import os
import shlex
import subprocess
from pathlib import Path

import cv2
import pytest
import yaml
from mmengine.config import Config
from mmengine.hooks import Hook

from mtl_plugins.config.options import add_backend
from mtl_plugins.errors import ConfigError
from mtl_plugins.lab.experiments import launch, wandb_sweep
from mtl_plugins.lab.experiments.definition import read_sweep
from mtl_plugins.lab.experiments.slurm import script_of
from mtl_plugins.lab.experiments.training import train_run
from mtl_plugins.records.metrics_file import read_metrics
from mtl_plugins.registry import HOOKS
from mtl_plugins.utils.cli import explain
from tests.tiny import EPOCH_CONFIG

LR = 'optim_wrapper.optimizer.lr'


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
                train_run(json.loads((self.folder / 'order.json').read_text()), self.folder)
                self.returncode = 0
            except Exception as error:
                (self.folder / 'output.txt').write_text(f'error: {explain(error) or repr(error)}\n')
        return self.returncode


def write_sweep(folder, config, space, **entries):
    path = folder / 'sweep.py'
    entries = dict(config=str(config), space=space, **entries)
    path.write_text(''.join(f'{key} = {value!r}\n' for key, value in entries.items()))
    return path


@pytest.fixture
def joint_sweep(tmp_path):
    space = {'optimizer': {'Adam': {}, 'SGD': {'optim_wrapper.optimizer': dict(_delete_=True, type='SGD', lr=0.1)}}}
    return write_sweep(tmp_path, EPOCH_CONFIG, {**space, LR: [0.1, 0.001]}, seeds=[3, 4], trials=5)


def test_a_sweep_is_interrupted_and_goes_on_to_its_report_bit_for_bit(
    run_cli, tiny_config_file, data_root, tmp_path, monkeypatch
):
    monkeypatch.setattr(launch, 'start_process', InThisProcess)
    flag = tmp_path / 'interrupt'
    with tiny_config_file.open('a') as file:
        file.write(f"custom_hooks = [dict(type='InterruptOnce', flag={str(flag)!r})]\n")
        file.write('default_hooks = dict(logger=dict(interval=1), checkpoint=dict(save_best=None))\n')
    space = {LR: [0.01], 'model.backbone.type': ['TinyBackbone', 'NoBackbone']}
    sweep = write_sweep(tmp_path, tiny_config_file, space)

    def start(name, *more):
        return run_cli('sweep', sweep, '--data-root', data_root, '--work-dir', tmp_path / name, *more)

    flag.touch()
    assert start('work').code == 'Interrupted.'
    folders = sorted(path.name for path in (tmp_path / 'work/trials').iterdir())
    assert folders == ['0000_seed0'] and not flag.exists()
    done = start('work')
    assert done.code == 0, done.err
    document = json.loads((tmp_path / 'work/trials.json').read_text())
    assert [(trial['number'], trial['state']) for trial in document['trials']] == [(0, 'complete'), (1, 'fail')]
    assert 'NoBackbone' in document['trials'][1]['error'] and 'NoBackbone' in done.out
    # Two attempts, of which the second began where the first had saved.
    assert len(json.loads((tmp_path / 'work/trials/0000_seed0/attempts.json').read_text())) == 2
    assert len(list((tmp_path / 'work/trials/0000_seed0').glob('*/vis_data'))) == 2
    for name in ('score_by_lr', 'score_by_type', 'losses'):
        height, width, _ = cv2.imread(str(tmp_path / f'work/{name}.png')).shape
        assert height > 300 and width > 600
    assert f'| 0.01 | TinyBackbone | {document["trials"][0]["score"]:.2f} | 1 |' in (tmp_path / 'work/table.md').read_text()

    # Without interruption, and with only the first trial.
    sweep.write_text(sweep.read_text() + 'trials = 1\n')
    assert start('straight').code == 0
    metrics = [read_metrics(tmp_path / name / 'trials/0000_seed0/metrics.csv') for name in ('work', 'straight')]
    times = [{key for key in row if 'time' in key} for row in metrics[0]]
    assert len(metrics[0]) == 2
    for one, other, timed in zip(*metrics, times, strict=True):
        assert {key: one[key] for key in one.keys() - timed} == {key: other[key] for key in other.keys() - timed}


def test_an_array_job_runs_workers_of_the_sweep(run_cli, joint_sweep, data_root, tmp_path, monkeypatch):
    arguments = ('sweep', joint_sweep, '--data-root', data_root, '--work-dir', tmp_path / 'my work', '--slurm', 4)
    monkeypatch.setenv('PATH', '/nowhere')
    refused = run_cli(*arguments)
    assert refused.code == 1 and 'There is no `sbatch` on PATH' in refused.err and (tmp_path / 'my work/sweep.sbatch').is_file()

    commands = tmp_path / 'bin'
    commands.mkdir()
    sbatch = commands / 'sbatch'
    refuse = 'if [ "$1" = --wrong ]; then echo bad option >&2; exit 1; fi'
    record = f'for word; do echo "$word"; done > {tmp_path}/seen'
    sbatch.write_text(f'#!/bin/sh\n{record}\n{refuse}\necho Submitted batch job 42\n')
    sbatch.chmod(0o755)
    monkeypatch.setenv('PATH', f'{commands}:/usr/bin:/bin')
    done = run_cli(*arguments, '--sbatch-args=--partition=gpu --gres=gpu:1')
    assert done.code == 0 and done.out.strip() == 'Submitted batch job 42'
    script = tmp_path / 'my work/sweep.sbatch'
    assert (tmp_path / 'seen').read_text().splitlines() == ['--partition=gpu', '--gres=gpu:1', str(script)]
    assert subprocess.run(['bash', '-n', script]).returncode == 0
    lines = script.read_text().splitlines()
    assert '#SBATCH --array=0-3' in lines and '#SBATCH --requeue' in lines
    command = shlex.split(lines[-1])
    assert command[:3] == ['exec', 'srun', '--ntasks=1'] and command[5].endswith('tools/sweep.py')
    assert command[6:] == [
        str(joint_sweep), '--work-dir', str(tmp_path / 'my work'), '--data-root', str(data_root.resolve()), '--worker'
    ]  # fmt: skip
    refused = run_cli(*arguments, '--sbatch-args=--wrong')
    assert refused.code == 1 and 'bad option' in refused.err and len(refused.err.splitlines()) == 1


def test_weights_and_biases_gets_the_same_sweep(run_cli, joint_sweep, data_root, tmp_path, monkeypatch):
    monkeypatch.setenv('WANDB_MODE', 'offline')
    arguments = ('sweep', joint_sweep, '--data-root', data_root, '--work-dir', tmp_path / 'work')
    done = run_cli(*arguments, '--wandb', 'scapes')
    path = tmp_path / 'work/wandb_sweep.yaml'
    assert done.code == 0 and done.out.strip() == f'wandb sweep --project scapes {path}'
    config = yaml.safe_load(path.read_text())
    assert config['parameters'] == {
        'optimizer': dict(values=['Adam', 'SGD']),
        LR: dict(values=[0.1, 0.001]),
        'seed': dict(values=[3, 4]),
    }
    assert (config['method'], config['run_cap']) == ('grid', 5)
    assert config['metric'] == dict(name='metrics_summary/multitask_unclipped', goal='maximize')
    head = ['${env}', '${interpreter}', '${program}', str(joint_sweep), '--work-dir', str(tmp_path / 'work')]
    assert config['command'] == [*head, '--data-root', str(data_root.resolve()), '--trial', '${args_no_hyphens}']

    monkeypatch.setenv('WANDB_MODE', 'online')
    import wandb

    made = []
    monkeypatch.setattr(wandb, 'sweep', lambda config, project: made.append((config, project)) or 'abc123')
    assert run_cli(*arguments, '--wandb', 'scapes').out.strip() == 'wandb agent abc123'
    assert made == [(config, 'scapes')]

    # What an agent then runs.
    orders = []
    monkeypatch.setattr(wandb_sweep, 'train_run', lambda order, folder, backend: orders.append((order, folder, backend)))
    monkeypatch.setenv('WANDB_RUN_ID', 'run7')
    assert run_cli(*arguments, '--trial', f'{LR}=0.001', 'optimizer=SGD', 'seed=4').code == 0
    ((order, folder, backend),) = orders
    assert folder == tmp_path / 'work/wandb/run7' and order['options'][LR] == 0.001
    assert order['options']['optim_wrapper.optimizer']['type'] == 'SGD' and order['options']['randomness.seed'] == 4
    for logged in (Config(), Config(dict(visualizer=dict(type='Visualizer', vis_backends=[dict(type='LocalVisBackend')])))):
        for _ in range(2):
            add_backend(logged, backend)
            assert [item['type'] for item in logged.visualizer.vis_backends] == ['LocalVisBackend', 'WandbVisBackend']
    for trial, words in {
        'optimizer=SGD': 'Found none for',
        f'optimizer=RMS {LR}=0.1': 'should be one of Adam, SGD. Found',
        f'optimiser=SGD {LR}=0.1': 'Did you mean `optimizer`?',
    }.items():
        refused = run_cli(*arguments, '--trial', *trial.split())
        assert refused.code == 1 and words in refused.err and len(refused.err.splitlines()) == 1


def test_ranges_for_weights_and_biases(tmp_path):
    space = {
        LR: dict(low=1e-5, high=1e-1, log=True),
        'a.b': dict(low=1, high=9),
        'a.c': dict(low=0.0, high=1.0, step=0.25),
    }
    path = write_sweep(
        tmp_path, EPOCH_CONFIG, space, sampler=dict(type='TPESampler'), trials=7, pruner=dict(type='HyperbandPruner')
    )
    sweep = read_sweep(path)
    config = wandb_sweep.wandb_config(sweep)
    assert config['method'] == 'bayes' and config['run_cap'] == 7 and config['early_terminate']['type'] == 'hyperband'
    assert config['parameters'][LR] == {'distribution': 'log_uniform_values', 'min': 1e-5, 'max': 1e-1}
    assert config['parameters']['a.b'] == {'distribution': 'int_uniform', 'min': 1, 'max': 9}
    assert config['parameters']['a.c'] == {'distribution': 'q_uniform', 'q': 0.25, 'min': 0.0, 'max': 1.0}
    params, seed = wandb_sweep.parse_trial(sweep, [f'{LR}=1e-3', 'a.b=4', 'a.c=0.5'])
    assert params == {LR: 1e-3, 'a.b': 4, 'a.c': 0.5} and seed == 0
    with pytest.raises(RuntimeError, match='from 1 to 9'):
        wandb_sweep.parse_trial(sweep, [f'{LR}=1e-3', 'a.b=10', 'a.c=0.5'])


GOOD = f"config = {str(EPOCH_CONFIG)!r}\nspace = {{'{LR}': [0.1]}}\n"
RANGE = GOOD.replace('[0.1]', 'dict(low=0.1, high=1.0)')
BAD = {
    'unknown key': (GOOD + 'metrics = 1', 'Unknown key `metrics` in the sweep', 'Did you mean `metric`?'),
    'no space': (f'config = {str(EPOCH_CONFIG)!r}', 'should state `space`'),
    'not Python': ('space = {', 'cannot be read: SyntaxError'),
    'no such option': (GOOD.replace('.lr', '.lrate'), 'has no valid config', 'takes no `lrate`'),
    'no such config': (GOOD.replace('config =', "config = 'nowhere.py'\n_ ="), 'Config nowhere.py does not exist'),
    'entry': (GOOD.replace('[0.1]', '0.1'), 'should be a list of values', 'Found 0.1'),
    'range in a grid': (RANGE, 'should list values, since a grid has no ranges'),
    'no budget': (RANGE + "sampler = dict(type='TPESampler')", '`trials` of the sweep', 'how many points TPESampler draws'),
    'empty range': (RANGE.replace('high=1.0', 'high=0.1') + "sampler = dict(type='TPESampler')\ntrials = 3", 'low < high'),
    'sampler': (GOOD + "sampler = dict(type='TPSSampler')", 'no class of Optuna: TPSSampler.', 'Did you mean `TPESampler`?'),
    'argument': (GOOD + "pruner = dict(type='MedianPruner', warmup=1)", 'MedianPruner takes no `warmup`'),
    'coupling': (GOOD.replace('[0.1]', "dict(values=[1], function='batch_size')"), 'Did you mean `batch_size_with_epochs`?'),
    'direction': (GOOD + "direction = 'up'", "should be 'maximize' or 'minimize'. Found 'up'"),
    'seeds': (GOOD + 'seeds = 3', '`seeds` of the sweep', 'a list of seeds. Found 3'),
    'data': (GOOD + 'data = dict(train=8, val=3)', '`data` of the sweep', 'size'),
}


@pytest.mark.parametrize('name', BAD)
def test_a_sweep_that_cannot_be_used_is_one_sentence(run_cli, tmp_path, name):
    text, *words = BAD[name]
    path = tmp_path / 'sweep.py'
    path.write_text(text + '\n')
    result = run_cli('sweep', path, '--work-dir', tmp_path / 'work')
    assert result.code == 1 and len(result.err.strip().splitlines()) == 1, result.err
    assert all(word in result.err for word in words), result.err
    assert not os.listdir(tmp_path / 'work') if (tmp_path / 'work').exists() else True


def test_a_report_without_trials_and_a_missing_file_are_one_sentence(run_cli, joint_sweep, tmp_path):
    assert 'No trial of' in run_cli('sweep', joint_sweep, '--work-dir', tmp_path / 'work', '--report-only').err
    assert 'should be an existing .py file' in run_cli('sweep', tmp_path / 'none.py').err


@pytest.mark.parametrize('name', ['a b', "it's", 'a;touch x', '$(touch x)', '`touch x`', 'a\\b', 'a#b', 'ü"', '50%'])
def test_names_and_paths_of_a_batch_job_are_words(name, tmp_path, monkeypatch):
    # They stood in the script as they are: a line break began a command, and a space ended the name.
    monkeypatch.chdir(tmp_path)
    script = script_of(name, tmp_path / name, 2, ['sweep.py', '--work-dir', str(tmp_path / name)])
    options = dict(line.removeprefix('#SBATCH --').partition('=')[::2] for line in script.splitlines()[1:5])
    assert shlex.split(options['job-name'], comments=True) == [name]
    assert shlex.split(options['output'], comments=True) == [str(tmp_path / name).replace('%', '%%') + '/slurm-%A_%a.log']
    (tmp_path / 'srun').write_text('#!/bin/sh\nfor word; do printf "%s\\n" "$word"; done\n')
    (tmp_path / 'srun').chmod(0o755)
    environment = dict(os.environ, PATH=f'{tmp_path}:/usr/bin:/bin')
    (tmp_path / 'script').write_text(script)
    done = subprocess.run(['bash', 'script'], env=environment, capture_output=True, text=True)
    assert done.stdout.splitlines()[-3:] == ['sweep.py', '--work-dir', str(tmp_path / name)] and not (tmp_path / 'x').exists()


@pytest.mark.parametrize('name', ['a\ntouch x', 'a\r#SBATCH --uid=0', 'a\x1b[2J', 'a\u2028b'])
def test_a_batch_job_has_no_control_characters_in_its_names(name, tmp_path):
    for job, folder, word in ((name, tmp_path, 'x'), ('job', tmp_path / name, 'x'), ('job', tmp_path, name)):
        with pytest.raises(ConfigError, match='should have no control characters'):
            script_of(job, folder, 2, [word])
