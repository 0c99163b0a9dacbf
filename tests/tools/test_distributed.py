"""Two processes over gloo, started as a user starts them."""

import csv
import json
import os
import shutil
import socket
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import torch

from mtl_plugins.utils.checkpoint_io import find_latest_checkpoint, load_checkpoint_file

ROOT = Path(__file__).resolve().parents[2]

ONE_STEP = """
optim_wrapper = dict(optimizer=dict(_delete_=True, type='SGD', lr=0.1))
train_cfg = dict(max_epochs=1)
train_dataloader = dict(
    batch_size=2,
    sampler=dict(shuffle=False),
    dataset=dict(
        pipeline=[
            dict(type='LoadMiniScapes'),
            dict(type='RandomHomography', crop_size=(32, 64), flip_prob=0.0),
            dict(type='PackMultiTaskInputs', meta_keys=()),
        ]
    ),
)
"""


def _free_port() -> str:
    with socket.socket() as server:
        server.bind(('127.0.0.1', 0))
        return str(server.getsockname()[1])


def _select(source: Path, target: Path, indices: list[int]) -> Path:
    """A copy of a data set whose training split holds the given samples under new numbers."""
    shutil.copytree(source, target, ignore=lambda folder, names: names if Path(folder).parent.name == 'train' else [])
    for modality, suffix in (('rgb', 'jpg'), ('semseg', 'png'), ('depth', 'png')):
        for position, index in enumerate(indices):
            shutil.copy(source / 'train' / modality / f'{index}.{suffix}', target / 'train' / modality / f'{position}.{suffix}')
    return target


@pytest.mark.dist
def test_two_processes_train_validate_and_submit_as_one_does(run_cli, tiny_config_file, data_root, tmp_path):
    # Each process gets samples 0 and 1, so that the averaged gradient is that of one process with the batch (0, 1).
    twice = _select(data_root, tmp_path / 'twice', [0, 0, 1, 1])
    once = _select(data_root, tmp_path / 'once', [0, 1])
    with tiny_config_file.open('a') as file:
        file.write(ONE_STEP)
    run = subprocess.run(
        ['bash', ROOT / 'tools' / 'dist_train.sh', tiny_config_file, '2', '--work-dir', tmp_path / 'two', '--data-root', twice],
        cwd=ROOT,
        env={**os.environ, 'PYTHON': sys.executable, 'PORT': _free_port(), 'OMP_NUM_THREADS': '1'},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert run.returncode == 0, run.stderr[-3000:]
    result = run_cli('train', tiny_config_file, '--work-dir', tmp_path / 'one', '--data-root', once, '--no-submission')
    assert result.code == 0, result.err

    checkpoints = [find_latest_checkpoint(tmp_path / name) for name in ('two', 'one')]
    two, one = (load_checkpoint_file(path)['state_dict'] for path in checkpoints)
    start = load_checkpoint_file(checkpoints[1])['meta']['iter']
    assert start == 1
    for name, value in one.items():
        torch.testing.assert_close(two[name], value, rtol=1e-4, atol=1e-6, msg=name)

    # Three validation images on two processes: the sampler repeats one, which must count once.
    result = run_cli(
        'test', tiny_config_file, checkpoints[0], '--json', tmp_path / 'single.json', '--work-dir', tmp_path / 'test',
        '--data-root', twice,
    )  # fmt: skip
    assert result.code == 0, result.err
    (row,) = csv.DictReader((tmp_path / 'two' / 'metrics.csv').open())
    for name, value in json.loads((tmp_path / 'single.json').read_text()).items():
        assert float(row[name]) == pytest.approx(value, rel=1e-6, abs=1e-6), name

    (archive,) = (tmp_path / 'two').glob('*.zip')
    with zipfile.ZipFile(archive) as content:
        names = [name for name in content.namelist() if name.startswith('predictions/')]
    assert sorted(names) == sorted(f'predictions/{task}/{index}.png' for task in ('semseg', 'depth') for index in range(3))


def test_the_shell_scripts_explain_themselves():
    for name in ('dist_train', 'dist_test', 'slurm_train', 'slurm_test', 'slurm_job', 'slurm_node'):
        run = subprocess.run(['bash', ROOT / 'tools' / f'{name}.sh'], capture_output=True, text=True)
        assert run.returncode == 2
        assert 'Usage: ' in run.stderr and f'tools/{name}.sh' in run.stderr
