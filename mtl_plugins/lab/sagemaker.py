"""A training job of SageMaker as a call of ``tools/train.py``.

The container gives hyper-parameters in ``SM_HPS`` (JSON) and the folder of each input channel in ``SM_CHANNEL_<NAME>``, and packs
``SM_MODEL_DIR`` into ``model.tar.gz`` at the end. What is in the checkpoint folder is kept while the job runs, and is there again
when a job on spot instances starts anew.
"""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from mtl_plugins.errors import ConfigError, DataNotFoundError
from mtl_plugins.utils.files import make_folder

TOOLS = Path(__file__).resolve().parents[2] / 'tools'
# Hyper-parameters that are not keys of the config.
_OWN = ('config', 'amp', 'no-submission', 'checkpoint-dir')


def train() -> int:
    """Train as the variables of the container say, leave results where the service collects them; return the exit status."""
    environment = os.environ
    work_dir = Path(_parameters(environment).get('checkpoint-dir', '/opt/ml/checkpoints'))
    code = run(training_command(environment, work_dir))
    if code == 0 and _node_rank(environment) == 0:
        collect(work_dir, Path(environment.get('SM_MODEL_DIR', '/opt/ml/model')))
    return code if code >= 0 else 128 - code


def run(command: list[str]) -> int:
    """Run a command and pass SIGTERM, the notice of two minutes before a spot instance goes, on to it."""
    process = subprocess.Popen(command)

    def pass_on(number: int, frame: object) -> None:
        process.send_signal(number)

    earlier = {number: signal.signal(number, pass_on) for number in (signal.SIGTERM, signal.SIGUSR1)}
    try:
        return process.wait()
    finally:
        for number, handler in earlier.items():
            signal.signal(number, handler)


def training_command(environment: Mapping[str, str], work_dir: Path) -> list[str]:
    """Return the command that trains on this node, or continues the run in ``work_dir``.

    ``config`` is a hyper-parameter; so may be ``amp``, ``no-submission`` (true or false) and ``checkpoint-dir``. Any other one is
    a key of the config, such as ``train_dataloader.batch_size``. ``$SM_CHANNEL_<NAME>`` in a value stands for the folder of a
    channel.
    """
    parameters = _parameters(environment)
    if not parameters.get('config'):
        raise ConfigError('The hyper-parameter `config` is missing: it should name a config file, such as configs/joint/NAME.py.')
    command = [str(parameters['config']), '--work-dir', str(work_dir)]
    command += ['--data-root', str(find_data(environment))]
    checkpoint = resume_point(work_dir)
    if checkpoint is not None:
        command += ['--resume', str(checkpoint)]
    command += [f'--{name}' for name in ('amp', 'no-submission') if _is_true(name, parameters.get(name, False))]
    options = [f'{key}={_option(value, environment)}' for key, value in parameters.items() if key not in _OWN]
    if options:
        command += ['--cfg-options', *options]
    hosts = json.loads(environment.get('SM_HOSTS', '[]'))
    processes = max(int(environment.get('SM_NUM_GPUS', '0')), 1)
    if processes == 1 and len(hosts) < 2:
        return [sys.executable, str(TOOLS / 'train.py'), *command]
    rendezvous = ['--standalone']
    if len(hosts) > 1:
        # The main process, which writes, is that of the first host.
        rendezvous = [f'--nnodes={len(hosts)}', f'--node-rank={_node_rank(environment)}']
        rendezvous += [f'--master-addr={sorted(hosts)[0]}', '--master-port=29400']
    launcher = [sys.executable, str(TOOLS / 'launch.py'), *rendezvous, f'--nproc-per-node={processes}']
    return [*launcher, str(TOOLS / 'train.py'), *command, '--launcher', 'pytorch']


def find_data(environment: Mapping[str, str]) -> Path:
    """Return the data root: the first channel that holds a folder ``train``."""
    prefix = 'SM_CHANNEL_'
    channels = {name.removeprefix(prefix).lower(): Path(path) for name, path in environment.items() if name.startswith(prefix)}
    for path in channels.values():
        if (path / 'train').is_dir():
            return path
    found = ', '.join(f'{name} ({path})' for name, path in sorted(channels.items())) or 'no channel'
    raise DataNotFoundError(f'A channel should hold a data set with a folder train/. Found {found}.')


def resume_point(work_dir: Path) -> str | Path | None:
    """Return ``'auto'`` if the newest checkpoint of the folder is there; else the newest that is; None if there is none.

    The service copies the files of the folder one by one: the pointer to the newest may have come along without it.
    """
    from mtl_plugins.utils.checkpoint_io import find_latest_checkpoint

    latest = find_latest_checkpoint(work_dir)
    if latest is not None and Path(latest).is_file():
        return 'auto'
    numbered = {path: re.fullmatch(r'(?:epoch|iter)_(\d+)', path.stem) for path in work_dir.glob('*.pth')}
    steps = {path: int(match[1]) for path, match in numbered.items() if match}
    return max(steps, key=steps.get) if steps else None


def collect(work_dir: Path, model_dir: Path) -> None:
    """Copy a work dir to the folder that becomes ``model.tar.gz``: of its checkpoints the best, or else the newest, alone."""
    from mtl_plugins.utils.checkpoint_io import POINTER_NAME

    best = sorted(work_dir.glob('best_*.pth')) or sorted(work_dir.glob('*.pth'), key=lambda path: path.stat().st_mtime)[-1:]

    def left_out(folder: str, names: list[str]) -> list[str]:
        others = [path for path in (Path(folder, name) for name in names) if path not in best]
        unwanted = ('.pth', POINTER_NAME)
        return [path.name for path in others if path.name.endswith(unwanted) or path.name.startswith('.') or path.is_symlink()]

    make_folder(model_dir)
    shutil.copytree(work_dir, model_dir, ignore=left_out, dirs_exist_ok=True)


def stage_source(folder: Path) -> Path:
    """Write the source folder of a job and return it: package, tools and configs without data, environment and keys.

    The container installs ``requirements.txt``, which names the package. There is no ``setup.py``: with one the container runs
    the entry point as an installed module, and does not find it.
    """
    from mtl_plugins.submission.archive import read_source

    files = {**read_source(), 'requirements.txt': b'.[tracking]\n'}
    del files['setup.py']
    for name, data in files.items():
        make_folder((folder / name).parent)
        (folder / name).write_bytes(data)
    return folder


def _parameters(environment: Mapping[str, str]) -> dict:
    text = environment.get('SM_HPS', '{}')
    try:
        parameters = json.loads(text)
    except json.JSONDecodeError:
        parameters = None
    if not isinstance(parameters, dict):
        raise ConfigError(f'`SM_HPS` should be a JSON object of hyper-parameters. Found {text!r}.')
    return {key: value for key, value in parameters.items() if not key.startswith('sagemaker_')}


def _node_rank(environment: Mapping[str, str]) -> int:
    hosts = sorted(json.loads(environment.get('SM_HOSTS', '[]')))
    return hosts.index(environment['SM_CURRENT_HOST']) if len(hosts) > 1 else 0


def _is_true(name: str, value: object) -> bool:
    text = str(value).lower()
    if text not in ('true', 'false', '1', '0'):
        raise ConfigError(f'The hyper-parameter `{name}` should be true or false. Found {value!r}.')
    return text in ('true', '1')


def _option(value: object, environment: Mapping[str, str]) -> str:
    """Return a value as ``--cfg-options`` reads it."""
    if isinstance(value, str):
        return re.sub(r'\$(SM_CHANNEL_\w+)', lambda match: environment.get(match[1], match[0]), value)
    return str(value).replace(' ', '')
