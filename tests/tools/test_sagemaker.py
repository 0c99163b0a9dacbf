"""A training job in the folders of SageMaker."""

import json
import re
import runpy
import shlex
import shutil
import signal
import sys
import zipfile
from pathlib import Path
from types import SimpleNamespace

import pytest

from mtl_plugins.cli import run
from mtl_plugins.config.load import load_config, parse_options
from mtl_plugins.errors import ConfigError, DataNotFoundError
from mtl_plugins.lab import sagemaker
from mtl_plugins.lab.sagemaker import resume_point, training_command

ROOT = Path(__file__).resolve().parents[2]


def _environment(ml: Path, parameters: dict, **channels) -> dict[str, str]:
    """The variables of a container whose /opt/ml is ``ml``."""
    folders = {f'SM_CHANNEL_{name.upper()}': str(path) for name, path in channels.items()}
    return dict(
        SM_HPS=json.dumps(parameters),
        SM_CHANNELS=json.dumps(sorted(channels)),
        SM_MODEL_DIR=str(ml / 'model'),
        SM_NUM_GPUS='0',
        SM_HOSTS='["algo-1"]',
        SM_CURRENT_HOST='algo-1',
        **folders,
    )


def test_a_job_trains_leaves_its_results_and_goes_on_on_another_machine(
    run_cli, tiny_config_file, data_root, tmp_path, monkeypatch
):
    with open(tiny_config_file, 'a', encoding='utf-8') as file:
        backends = "[dict(type='LocalVisBackend'), dict(type='TensorboardVisBackend')]"
        file.write(f"visualizer = dict(type='Visualizer', vis_backends={backends})\n")
    ml, channel = tmp_path / 'ml', tmp_path / 'ml' / 'input' / 'data' / 'training'
    shutil.copytree(data_root, channel)
    parameters = {
        'config': str(tiny_config_file),
        'checkpoint-dir': str(ml / 'checkpoints'),
        'train_cfg.max_epochs': 1,
        'sagemaker_program': 'tools/cloud/sagemaker_train.py',
    }

    def start(**changes) -> None:
        for name, value in _environment(ml, {**parameters, **changes}, training=channel).items():
            monkeypatch.setenv(name, value)
        # The toolkit of the container passes the hyper-parameters as arguments, too.
        result = run_cli('cloud/sagemaker_train', '--config', tiny_config_file, '--train_cfg.max_epochs', '1')
        assert result.code == 0, result.err

    def run_here(command: list[str]) -> int:
        assert command[:2] == [sys.executable, str(ROOT / 'tools' / 'train.py')]
        run('train', command[2:])
        return 0

    monkeypatch.setattr(sagemaker, 'run', run_here)
    start()
    (archive,) = (ml / 'model').glob('*.zip')
    with zipfile.ZipFile(archive) as content:
        assert {f'predictions/semseg/{index}.png' for index in range(3)} <= set(content.namelist())
    assert [path.name.split('_epoch_')[1] for path in (ml / 'model').glob('*.pth')] == ['1.pth']
    (events,) = (ml / 'model').glob('*/vis_data/events.out.tfevents*')
    assert events.with_name('scalars.json').is_file() and len(list((ml / 'model').glob('*/*.log'))) == 1
    assert json.loads((ml / 'model' / 'run.json').read_text())['archive'] == archive.name
    assert not [path for path in (ml / 'model').rglob('*') if path.name.startswith('.')]
    assert 'max_epochs=1' in (ml / 'model' / 'tiny.py').read_text()

    # On a new machine there is the checkpoint folder, and nothing else.
    shutil.rmtree(ml / 'model')
    start(**{'train_cfg.max_epochs': 2})
    rows = (ml / 'model' / 'metrics.csv').read_text().splitlines()
    assert [row.split(',')[0] for row in rows] == ['epoch', '1', '2']


@pytest.mark.parametrize('start', ['script', 'notebook'])
def test_the_examples_start_a_job_whose_source_folder_has_all_that_it_needs_and_no_key(tmp_path, monkeypatch, start):
    jobs = []

    class PyTorch:
        def __init__(self, **arguments):
            self.arguments = arguments

        def fit(self, inputs, wait):
            jobs.append((self.arguments, inputs))
            self.latest_training_job = SimpleNamespace(name='multitask-2026')

    session = SimpleNamespace(default_bucket=lambda: 'bucket')
    sdk = dict(get_execution_role=lambda: 'role', Session=lambda: session, pytorch=SimpleNamespace(PyTorch=PyTorch))
    monkeypatch.setitem(sys.modules, 'sagemaker', SimpleNamespace(**sdk))
    monkeypatch.setitem(sys.modules, 'sagemaker.pytorch', sdk['pytorch'])
    monkeypatch.setattr('tempfile.tempdir', str(tmp_path))
    monkeypatch.setattr(sys, 'path', [str(ROOT / 'examples/sagemaker'), *sys.path])
    if start == 'script':
        monkeypatch.setattr(sys, 'argv', ['submit.py', 's3://bucket/miniscapes', '--role', 'role', '--checkpoints', 's3://c'])
        runpy.run_path(str(ROOT / 'examples/sagemaker/submit.py'), run_name='__main__')
    else:
        cells = json.loads((ROOT / 'examples/sagemaker/train.ipynb').read_text())['cells']
        exec(''.join(''.join([*cell['source'], '\n']) for cell in cells if cell['cell_type'] == 'code'), {})
    ((arguments, inputs),) = jobs
    source = Path(arguments['source_dir'])
    assert inputs == {'training': 's3://bucket/miniscapes'} and arguments['use_spot_instances']
    assert arguments['max_wait'] >= arguments['max_run'] and arguments['checkpoint_s3_uri'].startswith('s3://')
    # With a setup.py the toolkit of the container runs `python -m tools/cloud/sagemaker_train`, which is no module.
    assert (source / arguments['entry_point']).is_file() and not (source / 'setup.py').exists()
    assert (source / 'requirements.txt').read_text() == '.[tracking]\n' and (source / 'pyproject.toml').is_file()
    assert not [path for path in source.rglob('*') if path.suffix in ('.key', '.pth', '.png') or path.name.startswith('.')]
    (tmp_path / 'data' / 'train').mkdir(parents=True)
    environment = _environment(tmp_path, arguments['hyperparameters'], training=tmp_path / 'data')
    command = training_command(environment, tmp_path / 'checkpoints')
    options = parse_options(command[command.index('--cfg-options') + 1 :])
    config = load_config(str(source / command[2]), options)
    assert (config.team_prefix, config.team, config.name) == ('G', 46, 'adam_1e-4') and '--amp' in command


def test_the_smoke_command_of_the_page_trains_two_iterations(run_cli, tiny_config_file, data_root, tmp_path):
    page = (ROOT / 'docs/clusters.md').read_text()
    command = re.search(r'python tools/train\.py (CONFIG .*?)\n```', page, re.DOTALL)[1].replace('\\\n', ' ')
    places = {'CONFIG': str(tiny_config_file), 'DATA': str(data_root), '$(mktemp -d)': str(tmp_path / 'smoke')}
    result = run_cli('train', *(places.get(word, word) for word in shlex.split(command)))
    assert result.code == 0, result.err
    record = json.loads((tmp_path / 'smoke' / 'run.json').read_text())
    assert record['progress']['iter'] == 2 and record['data']['val']['samples'] == 2
    with zipfile.ZipFile(tmp_path / 'smoke' / record['archive']) as archive:
        assert {f'predictions/depth/{index}.png' for index in range(2)} <= set(archive.namelist())


def test_hyper_parameters_channels_and_hosts_become_arguments(tmp_path):
    (tmp_path / 'training' / 'train').mkdir(parents=True)
    parameters = {
        'config': 'configs/joint/any.py',
        'amp': 'true',
        'no-submission': False,
        'train_dataloader.batch_size': 8,
        'model.backbone.out_indices': [0, 1],
        'model.backbone.init_cfg.checkpoint': '$SM_CHANNEL_WEIGHTS/r18.pth',
    }
    environment = _environment(tmp_path, parameters, weights=tmp_path / 'weights', training=tmp_path / 'training')
    command = training_command(environment, tmp_path / 'checkpoints')
    assert command == [
        sys.executable, str(ROOT / 'tools/train.py'), 'configs/joint/any.py', '--work-dir', str(tmp_path / 'checkpoints'),
        '--data-root', str(tmp_path / 'training'), '--amp', '--cfg-options', 'train_dataloader.batch_size=8',
        'model.backbone.out_indices=[0,1]', f'model.backbone.init_cfg.checkpoint={tmp_path}/weights/r18.pth',
    ]  # fmt: skip
    environment.update(SM_NUM_GPUS='4', SM_HOSTS='["algo-2", "algo-1"]', SM_CURRENT_HOST='algo-2')
    command = training_command(environment, tmp_path / 'checkpoints')
    assert command[1] == str(ROOT / 'tools/launch.py') and command[-2:] == ['--launcher', 'pytorch']
    assert {'--nnodes=2', '--node-rank=1', '--master-addr=algo-1', '--nproc-per-node=4'} <= set(command)


def test_a_signal_reaches_the_training_and_handlers_are_as_before():
    handlers = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGUSR1)]
    code = 'import os, signal, time; time.sleep(1); os.kill(os.getppid(), signal.SIGTERM); time.sleep(60)'
    assert sagemaker.run([sys.executable, '-c', code]) == -signal.SIGTERM
    assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGUSR1)] == handlers


def test_a_pointer_without_its_checkpoint_gives_way_to_the_newest_there_is(tmp_path):
    assert resume_point(tmp_path) is None
    for name in ('epoch_9.pth', 'epoch_10.pth', 'best_score_epoch_11.pth'):
        (tmp_path / name).touch()
    (tmp_path / 'last_checkpoint').write_text('interrupted.pth')
    assert resume_point(tmp_path) == tmp_path / 'epoch_10.pth'
    (tmp_path / 'interrupted.pth').touch()
    assert resume_point(tmp_path) == 'auto'


def test_what_a_job_lacks_is_said_in_a_sentence(tmp_path):
    def command(parameters, **channels):
        return training_command(_environment(tmp_path, parameters, **channels), tmp_path / 'checkpoints')

    with pytest.raises(ConfigError, match=r'hyper-parameter `config` is missing: it should name a config file'):
        command({})
    with pytest.raises(DataNotFoundError, match=r'A channel should hold a data set.*Found other \('):
        command({'config': 'c.py'}, other=tmp_path)
    (tmp_path / 'data' / 'train').mkdir(parents=True)
    with pytest.raises(ConfigError, match=r"hyper-parameter `amp` should be true or false. Found 'maybe'"):
        command({'config': 'c.py', 'amp': 'maybe'}, training=tmp_path / 'data')
    with pytest.raises(ConfigError, match=r"`SM_HPS` should be a JSON object.*Found '\['"):
        training_command({'SM_HPS': '['}, tmp_path)
