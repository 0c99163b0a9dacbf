"""A run that is killed, or finds the disk full, at any change of a file ends as the run that was not, once it is resumed.

A process trains up to the last step of an epoch, and dies right before one of the changes that follow. What it left is resumed,
up to the archive, and compared with what an undisturbed run left.
"""

import itertools
import multiprocessing
import os
import re
import shutil
import signal
import sys
import traceback
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import ClassVar

import pytest
import torch
from mmengine.hooks import Hook

from mtl_plugins.apis import train as training
from mtl_plugins.records.record import read_record_file
from mtl_plugins.registry import HOOKS
from mtl_plugins.submission import archive as archive_module
from mtl_plugins.utils.checkpoint_io import find_latest_checkpoint, load_checkpoint_file
from mtl_plugins.utils.cli import explain
from tests.killing import disturb
from tests.tiny import EPOCH_CONFIG, ITER_CONFIG, assert_same, tiny_config
from tests.tools.test_clusters import _free_port

pytestmark = pytest.mark.skipif(not hasattr(os, 'fork'), reason='needs fork')

# Of a record: what is of a start, or measured.
_OWN = ('started', 'updated', 'ended', 'seconds', 'sessions', 'code', 'config', 'memory_mib', 'epoch_seconds')
_SECONDS = 1200


@HOOKS.register_module()
class KillHook(Hook):
    """Disturb this process from the end of a training step on.

    Args:
        step: After which iteration, counted from 1.
        change: Which change of a file is fatal, counted from there.
        full: Whether that and all that follow find the disk full; else the process is killed.
    """

    priority = 'LOWEST'
    reached: ClassVar[bool] = False

    def __init__(self, step: int, change: int, full: bool) -> None:
        self.step, self.change, self.full = step, change, full

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None) -> None:
        if runner.iter + 1 == self.step:
            disturb(runner.work_dir, self._note, **{'full_at' if self.full else 'kill_at': self.change})

    def _note(self, number: int) -> None:
        KillHook.reached |= number >= self.change


def _train(config, output: Path, variables: dict[str, str]) -> None:
    """Train, and end this process: with 0, 1 where the disk was full, with an error that the tools print as one line, or 2."""
    status = 2
    try:
        os.environ.update(variables)
        descriptor = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(descriptor, 1)
        os.dup2(descriptor, 2)
        torch.set_num_threads(1)
        # Packing the source takes longer than all else, and names are random.
        archive_module._SOURCE_FOLDERS = ()
        training.make_run_name = lambda **_: 'T00_run'
        training.train(config)
        status = int(KillHook.reached)
    except BaseException as error:
        traceback.print_exc()
        status = 2 if explain(error) is None else 1
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


# Its server imports everything once, and never trains: a process that has called autograd may not fork another one that does.
_processes = multiprocessing.get_context('forkserver')
_processes.set_forkserver_preload([__name__])


def _run(config, output: Path, allowed: tuple[int, ...] = (0,), processes: int = 1) -> int:
    """Train in so many new processes, of which the others end with the main one, and return the status of that."""
    group = dict(WORLD_SIZE=str(processes), MASTER_ADDR='127.0.0.1', MASTER_PORT=_free_port(), LOCAL_RANK='0')
    config.launcher = 'pytorch' if processes > 1 else 'none'
    started = []
    for rank in range(processes):
        variables = {**group, 'RANK': str(rank)} if processes > 1 else {}
        started.append(_processes.Process(target=_train, args=(config, output, variables)))
        started[-1].start()
    started[0].join(_SECONDS)
    for other in started[1:]:
        # One that waits for the main process in vain.
        other.join(0 if started[0].exitcode else 10)
        other.kill()
    assert started[0].exitcode in allowed, output.read_text()[-3000:]
    return started[0].exitcode


def _config(data_root: Path, work_dir: Path, config_file: Path = EPOCH_CONFIG, hooks=(), balancing=None, **overrides):
    """Two epochs of two steps, or four iterations; the second validation is better than the first."""
    length = (
        dict(train_cfg__max_iters=4, train_cfg__val_interval=2) if config_file == ITER_CONFIG else dict(train_cfg__max_epochs=2)
    )
    options = dict(
        param_scheduler__0__end=4 if config_file == ITER_CONFIG else 2,
        train_dataloader__batch_size=4,
        train_dataloader__num_workers=0,
        val_dataloader__num_workers=0,
        test_dataloader__num_workers=0,
        optim_wrapper__optimizer__lr=0.02,
        default_hooks__checkpoint__max_keep_ckpts=1,
        **length,
    )
    if config_file == ITER_CONFIG:
        options['default_hooks__checkpoint__interval'] = 2
    config = tiny_config(data_root, work_dir, config_file, **{**options, **overrides})
    config.default_hooks.pictures.predictions = None
    config.custom_hooks = list(hooks)
    if balancing is not None:
        config.model.task_balancing = balancing
    return config


def _facts(work_dir: Path) -> dict:
    """All that has to be equal of two work dirs."""
    record = {name: value for name, value in read_record_file(work_dir).items() if name not in _OWN}
    for validation in record['validations']:
        for name in ('seconds', 'train_seconds', 'train_cpu_seconds'):
            validation.pop(name)
    # But for folders of logs and texts of configs, of which each start has its own.
    files = sorted(path.name for path in work_dir.iterdir() if not re.fullmatch(r'[0-9_]{15}|.*\.py', path.name))
    facts = dict(record=record, files=files, metrics=(work_dir / 'metrics.csv').read_bytes())
    (best,) = work_dir.glob('best_*.pth')
    for name, path in dict(last=Path(find_latest_checkpoint(work_dir)), best=best).items():
        checkpoint = load_checkpoint_file(path)
        infos = checkpoint['message_hub']['runtime_info']
        # Paths differ, and so do times.
        checkpoint['message_hub'] = {
            name: Path(value).name if name.endswith('_ckpt') else value
            for name, value in infos.items()
            if name not in ('experiment_name', 'eta')
        }
        checkpoint['meta'] = {name: checkpoint['meta'][name] for name in ('epoch', 'iter', 'seed', 'recipe')}
        facts[name] = (path.name, checkpoint)
    (archive,) = work_dir.glob('*.zip')
    with zipfile.ZipFile(archive) as content:
        # A log for each start, with times.
        names = [name for name in content.namelist() if name != 'source.zip' and not name.startswith('logs/')]
        facts['archive'] = {name: content.read(name) for name in names}
    return facts


def _check(
    data_root,
    folder: Path,
    step: int,
    changes: Iterable[int],
    full: bool = False,
    processes: int = 1,
    straight: dict | None = None,
    hooks=(),
    **options,
) -> int:
    """Stop at changes after a step, resume, and compare, as long as there are such changes; how many there were.

    ``straight`` are the facts of an undisturbed run of the same options, if there is one.
    """

    def run(name, more=(), allowed=(0,), **overrides) -> int:
        config = _config(data_root, folder / name, hooks=[*hooks, *more], **overrides, **options)
        return _run(config, folder / 'log', allowed, processes)

    folder.mkdir()
    if straight is None:
        run('straight')
        straight = _facts(folder / 'straight')
    assert len(straight['record']['validations']) == 2 and straight['record']['state'] == 'finished'
    for tried, change in enumerate(changes):
        point = dict(type='KillHook', step=step, change=change, full=full)
        if run(str(change), [point], (0, 1) if full else (0, -signal.SIGKILL)) == 0:
            return tried
        run(str(change), resume=True)
        assert_same(straight, _facts(folder / str(change)), f'change {change}')
        shutil.rmtree(folder / str(change))
    return tried + 1


@pytest.fixture(scope='module')
def straight(data_root, tmp_path_factory) -> dict:
    folder = tmp_path_factory.mktemp('kills')
    _run(_config(data_root, folder / 'straight'), folder / 'log')
    return _facts(folder / 'straight')


@pytest.mark.parametrize(
    ('step', 'changes', 'least'),
    [
        # From the last step of an epoch to the next: the killed validation was missing in metrics.csv, the record and the
        # archive, and another checkpoint could be the best.
        (2, [11], 1),
        # To the archive: in the last epoch nothing was validated after resume, and the submitted predictions were of another
        # checkpoint.
        (4, [8], 1),
        pytest.param(2, itertools.count(1), 42, marks=pytest.mark.slow),
    ],
)
def test_a_kill_after_the_last_step_of_an_epoch(data_root, tmp_path, straight, step, changes, least):
    assert _check(data_root, tmp_path / 'kills', step, changes, straight=straight) >= least


@pytest.mark.slow
def test_a_disk_that_is_full_from_a_change_on(data_root, tmp_path, straight):
    assert _check(data_root, tmp_path / 'full', 2, itertools.count(1, 3), full=True, straight=straight) > 10


_VARIANTS = dict(
    workers=dict(train_dataloader__num_workers=1, val_dataloader__num_workers=1),
    accumulation=dict(optim_wrapper__accumulative_counts=3),
    averaged=dict(hooks=[dict(type='EMAHook', momentum=0.1)]),
    # The second validation is no improvement by so much, and the last.
    stopped=dict(
        hooks=[dict(type='EarlyStoppingHook', monitor='metrics_summary/depth', patience=1, min_delta=1e6)],
        train_cfg__max_epochs=5,
    ),
    gradients=dict(balancing=dict(type='AggregatedGradients', aggregator='UPGrad', place='parameters')),
    iterations=dict(config_file=ITER_CONFIG),
    processes=dict(train_dataloader__batch_size=2, processes=2),
)


@pytest.mark.slow
@pytest.mark.parametrize('variant', _VARIANTS)
def test_a_kill_of_other_trainings(data_root, tmp_path, variant):
    assert _check(data_root, tmp_path / 'kills', 2, itertools.count(1, 9), **_VARIANTS[variant]) >= 4
