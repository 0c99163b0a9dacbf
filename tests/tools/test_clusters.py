"""Trainings of several processes, under SLURM and over several nodes; interrupted, they end as if they had not been."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest
import torch

from mtl_plugins.config.options import LAUNCH_NAME
from mtl_plugins.datasets.multitask.split_listing import list_miniscapes
from mtl_plugins.datasets.packing.packed import write_packed
from mtl_plugins.records.metrics_file import read_metrics
from mtl_plugins.utils.checkpoint_io import find_latest_checkpoint, load_checkpoint_file
from tests.tiny import ROOT, check_same_end

# Runs a copy of the batch script, as often as the job is requeued.
_SBATCH = """#!/usr/bin/env bash
echo "sbatch $*" >> "$FAKE_SLURM/calls"
nodes=1
while [ ! -f "$1" ]; do
    case $1 in --nodes=*) nodes=${1#*=} ;; esac
    shift
done
cp "$1" "$FAKE_SLURM/slurm_script"
shift
export SLURM_JOB_ID=7 SLURM_JOB_NODELIST="node[1-$nodes]" SLURM_JOB_NUM_NODES=$nodes SLURM_CPUS_PER_TASK=2
export SLURM_RESTART_COUNT=0
while :; do
    rm -f "$FAKE_SLURM/requeued"
    bash "$FAKE_SLURM/slurm_script" "$@" &
    echo $! > "$FAKE_SLURM/batch_pid.new" && mv "$FAKE_SLURM/batch_pid.new" "$FAKE_SLURM/batch_pid"
    code=0
    wait $! || code=$?
    [ -f "$FAKE_SLURM/requeued" ] || exit $code
    SLURM_RESTART_COUNT=$((SLURM_RESTART_COUNT + 1))
done
"""

# One task a node; passes SIGUSR1 on to them, and ends with the highest status.
_SRUN = """#!/usr/bin/env bash
echo "srun $*" >> "$FAKE_SLURM/calls"
while [[ $1 == -* ]]; do shift; done
tasks=()
trap 'kill -USR1 "${tasks[@]}"' USR1
for ((node = 0; node < SLURM_JOB_NUM_NODES; node++)); do
    SLURM_NODEID=$node "$@" &
    tasks+=($!)
done
highest=0
for task in "${tasks[@]}"; do
    while kill -0 "$task" 2>/dev/null; do wait "$task"; done
    wait "$task"
    code=$?
    if ((code > highest)); then highest=$code; fi
done
exit $highest
"""

_SCONTROL = """#!/usr/bin/env bash
echo "scontrol $*" >> "$FAKE_SLURM/calls"
case $1-$2 in
    show-hostnames) echo 127.0.0.1 ;;
    show-job) echo "JobId=$3 JobState=${FAKE_JOB_STATE:-RUNNING}" ;;
    requeue-7) touch "$FAKE_SLURM/requeued" ;;
esac
"""

# In the place of the interpreter: notes what it is to run; a training lasts until the signal comes, in its second life it ends.
FAKE_PYTHON = """#!/usr/bin/env bash
echo "python $*" >> "$FAKE_SLURM/calls"
case $1 in
    *stage_dataset.py) exec "$REAL_PYTHON" "$@" ;;
esac
if [ "$SLURM_RESTART_COUNT" != 0 ]; then exit 0; fi
trap 'exit 75' USR1
touch "$FAKE_SLURM/trains_$NODE_RANK"
while :; do sleep 0.05; done
"""


@pytest.fixture
def slurm(tmp_path):
    """Variables for a process that finds ``sbatch``, ``srun`` and ``scontrol`` as far as the scripts use them.

    One machine stands for all nodes; ``calls`` in the folder lists the calls.
    """
    folder = tmp_path / 'slurm'
    folder.mkdir()
    for name, script in (('sbatch', _SBATCH), ('srun', _SRUN), ('scontrol', _SCONTROL), ('interpreter', FAKE_PYTHON)):
        (folder / name).write_text(script)
        (folder / name).chmod(0o755)
    path = f'{folder}{os.pathsep}{os.environ["PATH"]}'
    return dict(FAKE_SLURM=str(folder), PATH=path, REAL_PYTHON=sys.executable, PYTHON=f'{folder}/interpreter')


def _wait_for(*paths: Path) -> None:
    deadline = time.monotonic() + 60
    while not all(path.exists() for path in paths):
        assert time.monotonic() < deadline, f'{paths} did not appear'
        time.sleep(0.02)


def _calls(slurm) -> list[list[str]]:
    return [line.split() for line in Path(slurm['FAKE_SLURM'], 'calls').read_text().splitlines()]


def _start(script: str, *arguments, **environment) -> subprocess.Popen:
    environment = {**os.environ, 'OMP_NUM_THREADS': '1', 'PYTHON': sys.executable, 'PYTHONPATH': str(ROOT), **environment}
    pipes = dict(stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    return subprocess.Popen(['bash', ROOT / 'tools' / script, *map(str, arguments)], env=environment, cwd=ROOT, **pipes)


def _submit(slurm, *arguments, **environment) -> subprocess.Popen:
    return _start('slurm_train.sh', 'gpu', 'job', *arguments, **{**slurm, **environment})


def test_a_job_stages_its_data_on_each_node_and_is_requeued_when_its_time_is_up(slurm, data_root, tmp_path):
    folder = Path(slurm['FAKE_SLURM'])
    root = shutil.copytree(data_root, tmp_path / 'data')
    write_packed(list_miniscapes(root, 'train'))
    job = _submit(
        slurm, 'config.py', '--data-root', root, '--amp',
        GPUS='4', GPUS_PER_NODE='2', NOTICE='100', SLURM_TMPDIR=str(tmp_path / 'disk'),
    )  # fmt: skip
    _wait_for(folder / 'trains_0', folder / 'trains_1', folder / 'batch_pid')
    # What --signal=B:USR1@100 has SLURM do, to the batch script alone.
    os.kill(int((folder / 'batch_pid').read_text()), signal.SIGUSR1)
    output, _ = job.communicate(timeout=60)
    assert job.returncode == 0, output

    calls = _calls(slurm)
    submitted = calls[0]
    for option in ('--requeue', '--signal=B:USR1@100', '--nodes=2', '--ntasks-per-node=1', '--gres=gpu:2', '--cpus-per-task=10'):
        assert option in submitted
    assert [call for call in calls if call[:2] == ['scontrol', 'requeue']] == [['scontrol', 'requeue', '7']]
    assert len([call for call in calls if call[0] == 'srun']) == 2
    # Both nodes in both lives; here they are one machine, which copies once.
    launches = [call for call in calls if call[0] == 'python' and call[1].endswith('launch.py')]
    (staged,) = (path for path in (tmp_path / 'disk').iterdir() if path.is_dir())
    assert len(launches) == 4
    for call in launches:
        assert {'--nnodes=2', '--nproc-per-node=2', '--max-restarts=3', '--rdzv-backend=c10d', '--rdzv-id=7'} <= set(call)
        assert '--rdzv-endpoint=127.0.0.1:20007' in call and call[-2:] == ['--data-root', str(staged)] and '--amp' in call
    assert sorted(option for call in launches for option in call if 'is_host' in option) == [
        *['--rdzv-conf=is_host=0'] * 2, *['--rdzv-conf=is_host=1'] * 2
    ]  # fmt: skip


def test_a_cancelled_job_stays_cancelled_and_data_that_are_not_packed_are_read_where_they_lie(slurm, data_root, tmp_path):
    Path(slurm['PYTHON']).write_text(FAKE_PYTHON.replace('trap', 'exit 75; trap'))
    environment = dict(GPUS='1', STAGE_DIR=str(tmp_path / 'disk'), MTL_DATA_ROOT=str(data_root))
    output, _ = _submit(slurm, 'config.py', FAKE_JOB_STATE='CANCELLED', **environment).communicate(timeout=60)
    assert 'has no packed split to copy to the node' in output and f'training from {data_root}' in output
    assert not [call for call in _calls(slurm) if call[:2] == ['scontrol', 'requeue']]
    job = _submit(slurm, 'config.py', GPUS='12')
    output, _ = job.communicate(timeout=60)
    assert job.returncode == 2 and '`GPUS` should be a multiple of `GPUS_PER_NODE`, 8. Found 12.' in output


def test_the_launcher_passes_a_request_on_and_tells_that_the_training_stopped(tmp_path):
    # A worker that leaves with another status than 0 is started again, and torchrun itself dies of SIGUSR1.
    (tmp_path / 'worker.py').write_text(
        'import sys, time; from pathlib import Path\n'
        'from mtl_plugins.utils.launcher import interrupted_status, stop_file\n'
        'Path(sys.argv[1]).touch()\n'
        'while not stop_file().exists(): time.sleep(0.02)\n'
        'sys.exit(interrupted_status())\n'
    )
    run = subprocess.Popen(
        [sys.executable, ROOT / 'tools' / 'launch.py', '--standalone', '--nproc-per-node=1', '--max-restarts=1',
         tmp_path / 'worker.py', tmp_path / 'started'],
        env={**os.environ, 'PYTHONPATH': str(ROOT)},
    )  # fmt: skip
    _wait_for(tmp_path / 'started')
    run.send_signal(signal.SIGTERM)
    assert run.wait(timeout=60) == 75


def test_processes_that_torchrun_starts_again_continue_their_own_run_only(
    run_cli, tiny_config_file, data_root, tmp_path, monkeypatch
):
    arguments = ('train', tiny_config_file, '--work-dir', tmp_path / 'run', '--data-root', data_root, '--no-submission')
    monkeypatch.setenv('TORCHELASTIC_RUN_ID', 'first')
    run_cli(*arguments, '--cfg-options', 'train_cfg.max_epochs=1').check()
    assert (tmp_path / 'run' / LAUNCH_NAME).read_text() == 'first'
    monkeypatch.setenv('TORCHELASTIC_RUN_ID', 'second')
    run_cli(*arguments).check_refused('already holds a run. Pass --resume')
    monkeypatch.setenv('TORCHELASTIC_RUN_ID', 'first')
    run_cli(*arguments).check()
    assert load_checkpoint_file(find_latest_checkpoint(tmp_path / 'run'))['meta']['epoch'] == 2
    # A job that SLURM requeued, without torchrun, is known by its count.
    monkeypatch.delenv('TORCHELASTIC_RUN_ID')
    run_cli(*arguments).check_refused('already holds a run')
    monkeypatch.setenv('SLURM_RESTART_COUNT', '1')
    run_cli(*arguments).check()


def _write_hurt(path: Path, config: Path, **hook) -> None:
    hook = dict(hook, type='HurtOnceHook', marker=str(path.with_suffix('.marker')))
    path.write_text(f"{config.read_text()}custom_imports['imports'].append('tests.stopping')\ncustom_hooks = [{hook}]\n")


def _assert_same_runs(one: Path, other: Path) -> None:
    check_same_end(one, other, 'state_dict')
    assert (one / 'metrics.csv').read_text() == (other / 'metrics.csv').read_text()


@pytest.mark.slow
@pytest.mark.dist
def test_two_nodes_go_on_after_a_worker_is_killed_and_after_a_signal_to_one(tiny_config_file, data_root, tmp_path):
    def train(work_dir: str, config: Path, *options: str, expected: int = 0) -> None:
        arguments = [config, 1, '--work-dir', tmp_path / work_dir, '--data-root', data_root, '--no-submission']
        arguments += ['--cfg-options', 'train_dataloader.batch_size=1', *options]
        shared = dict(NNODES='2', PORT=_free_port(), RUN_ID=work_dir, MAX_RESTARTS='1')
        nodes = [_start('dist_train.sh', *arguments, NODE_RANK=str(rank), **shared) for rank in range(2)]
        outputs = [node.communicate(timeout=300)[0] for node in nodes]
        assert [node.returncode for node in nodes] == [expected] * 2, '\n'.join(output[-3000:] for output in outputs)

    train('straight', tiny_config_file)
    # Eight samples on two nodes: four iterations an epoch; the worker dies in the second epoch.
    killed, asked = tmp_path / 'killed.py', tmp_path / 'asked.py'
    _write_hurt(killed, tiny_config_file, iteration=5, name='SIGKILL', rank=1)
    _write_hurt(asked, tiny_config_file, iteration=1, name='SIGUSR1', rank=1)
    train('killed', killed)
    assert (tmp_path / 'killed.marker').exists()
    _assert_same_runs(tmp_path / 'straight', tmp_path / 'killed')

    # One node is asked, both stop in mid-epoch with statistics of BatchNorm of their own, and go on in another launch.
    often = 'default_hooks.preemption.interval=1'
    train('asked', asked, often, expected=75)
    saved = load_checkpoint_file(tmp_path / 'asked' / 'interrupted.pth')
    assert saved['meta']['iter'] % 4 and len(saved['rank_buffers']) == 2
    train('asked', asked, often)
    _assert_same_runs(tmp_path / 'straight', tmp_path / 'asked')


@pytest.mark.slow
@pytest.mark.dist
def test_a_slurm_job_that_is_requeued_in_mid_epoch_ends_as_one_that_is_not(slurm, tiny_config_file, data_root, tmp_path):
    root = shutil.copytree(data_root, tmp_path / 'data')
    write_packed(list_miniscapes(root, 'train'))

    def train(work_dir: str, config: Path) -> str:
        job = _submit(
            slurm, config, '--work-dir', tmp_path / work_dir, '--data-root', root, '--no-submission',
            PYTHON=sys.executable, GPUS='1', TMPDIR=str(tmp_path), PORT=_free_port(),
        )  # fmt: skip
        output, _ = job.communicate(timeout=300)
        assert job.returncode == 0 and 'Not using' not in output, output[-3000:]
        return output

    assert 'Interrupted' not in train('straight', tiny_config_file)
    batch = f'{slurm["FAKE_SLURM"]}/batch_pid'
    _write_hurt(tmp_path / 'hurt.py', tiny_config_file, iteration=5, name='SIGUSR1', pid_file=batch)
    output = train('requeued', tmp_path / 'hurt.py')
    assert 'Interrupted: back into the queue.' in output and 'after iteration 5. The state is in' in output
    _assert_same_runs(tmp_path / 'straight', tmp_path / 'requeued')


# A step of plain gradients on whole images.
ONE_STEP = (
    '--cfg-options', 'train_cfg.max_epochs=1', 'optim_wrapper.optimizer.type=SGD', 'optim_wrapper.optimizer.lr=0.1',
    'train_dataloader.sampler.shuffle=False', 'train_dataloader.dataset.pipeline.1.crop_size=[32,64]',
    'train_dataloader.dataset.pipeline.1.flip_prob=0.0',
)  # fmt: skip


def _free_port() -> str:
    with socket.socket() as server:
        server.bind(('127.0.0.1', 0))
        return str(server.getsockname()[1])


@pytest.mark.dist
def test_two_processes_train_validate_and_submit_as_one_does(run_cli, tiny_config_file, data_root, tmp_path):
    # Each process gets samples 0 and 1, so that the averaged gradient is that of one process with the batch (0, 1).
    common = (tiny_config_file, '--data-root', data_root, *ONE_STEP)
    twice, once = ('train_dataloader.dataset.indices=' + indices for indices in ('[0,0,1,1]', '[0,1]'))
    run = _start('dist_train.sh', tiny_config_file, 2, *common[1:], twice, '--work-dir', tmp_path / 'two', PORT=_free_port())
    output, _ = run.communicate(timeout=300)
    assert run.returncode == 0, output[-3000:]
    run_cli('train', *common, once, '--work-dir', tmp_path / 'one', '--no-submission').check()

    checkpoints = [find_latest_checkpoint(tmp_path / name) for name in ('two', 'one')]
    two, one = (load_checkpoint_file(path)['state_dict'] for path in checkpoints)
    assert load_checkpoint_file(checkpoints[1])['meta']['iter'] == 1
    for name, value in one.items():
        torch.testing.assert_close(two[name], value, rtol=1e-4, atol=1e-6, msg=name)

    # Three validation images on two processes: the sampler repeats one, which must count once.
    arguments = ('--json', tmp_path / 'single.json', '--work-dir', tmp_path / 'test', '--data-root', data_root)
    run_cli('test', tiny_config_file, checkpoints[0], *arguments).check()
    (row,) = read_metrics(tmp_path / 'two' / 'metrics.csv')
    for name, value in json.loads((tmp_path / 'single.json').read_text()).items():
        assert float(row[name]) == pytest.approx(value, rel=1e-6, abs=1e-6), name

    (archive,) = (tmp_path / 'two').glob('*.zip')
    with zipfile.ZipFile(archive) as content:
        names = [name for name in content.namelist() if name.startswith('predictions/')]
    assert sorted(names) == sorted(f'predictions/{task}/{index}.png' for task in ('semseg', 'depth') for index in range(3))


def test_the_shell_scripts_explain_themselves():
    for name in ('dist_train', 'dist_test', 'slurm_train', 'slurm_test', 'slurm_job', 'slurm_node'):
        run = _start(f'{name}.sh')
        output, _ = run.communicate(timeout=60)
        assert run.returncode == 2 and 'Usage: ' in output and f'tools/{name}.sh' in output
