"""A run that is killed, or finds the disk full, at any change of a file ends as the run that was not, once it is resumed.

An audit hook counts the changes. A process trains up to the last step of an epoch; from there it forks a child for each change,
all with the same files, and the child dies right before that change, with the files that it was writing cut in half. What it left
is resumed, up to the archive, and compared with what an undisturbed run left.
"""

import errno
import multiprocessing
import os
import re
import shutil
import signal
import sys
import time
import traceback
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from mmengine.dist import is_main_process
from mmengine.hooks import Hook

from mtl_plugins.apis import train as training
from mtl_plugins.records.record import read_record_file
from mtl_plugins.registry import HOOKS
from mtl_plugins.submission import archive as archive_module
from mtl_plugins.utils.checkpoint_io import find_latest_checkpoint, load_checkpoint_file
from mtl_plugins.utils.cli import explain
from tests.engine.test_resume import _assert_equal
from tests.killing import TAKES_ROOM, listen
from tests.tiny import EPOCH_CONFIG, ITER_CONFIG, tiny_config
from tests.tools.test_distributed import _free_port

pytestmark = pytest.mark.skipif(not hasattr(os, 'fork'), reason='needs fork')

# Of a record: what is of a start, or measured.
_OWN = ('started', 'updated', 'ended', 'seconds', 'sessions', 'code', 'config', 'memory_mib', 'epoch_seconds')
_SECONDS = 120


class _Changes:
    """Counts the changes of files below a folder by this process, and lets one of them fail.

    Args:
        folder: Where.
        fatal: Which one fails, counted from 1; 0: none.
        full: Whether that and all that follow find the disk full; else the process is killed.
    """

    def __init__(self, folder: Path, fatal: int, full: bool) -> None:
        self.count = 0
        self._folder, self._fatal, self._full = folder, fatal, full
        listen(str(folder), self._hear)

    def _hear(self, number: int, event: str, path: Any) -> None:
        self.count = number
        if self._full:
            if 0 < self._fatal <= number and event in TAKES_ROOM:
                raise OSError(errno.ENOSPC, 'No space left on device', str(path))
        elif number == self._fatal:
            for name in self._folder.rglob('*.tmp'):
                if name.is_file():
                    os.truncate(name, name.stat().st_size // 2)
            os.kill(os.getpid(), signal.SIGKILL)


_counted: tuple[_Changes, Path] | None = None


def _note_count() -> None:
    """The child that is not disturbed has come to the next step, or to its end."""
    if _counted is not None:
        _counted[1].write_text(str(_counted[0].count))
        os._exit(0)


def _choose(count: int, every: int | Sequence[int]) -> list[int]:
    return sorted({*range(1, count + 1, every), count} if isinstance(every, int) else every)


@HOOKS.register_module()
class KillHook(Hook):
    """At the end of a training step, one child after the other goes on; what each leaves is copied. The process ends there.

    With ``change`` the process itself goes on: worker processes and a process group are not those of a child.

    Args:
        folder: Gets a copy for each child, named by its change, and ``count``: the changes up to the next step, or the end.
        step: After which iteration, counted from 1.
        every: Which changes are fatal: each so many-th and the last, or those of a list.
        full: As in :class:`_Changes`.
        change: The fatal one, of the main process.
    """

    priority = 'LOWEST'

    def __init__(self, folder: str, step: int, every: int | Sequence[int], full: bool = False, change: int | None = None) -> None:
        self.folder, self.step, self.every, self.full, self.change = Path(folder), step, every, full, change

    def before_train_iter(self, runner, batch_idx, data_batch=None) -> None:
        _note_count()

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None) -> None:
        global _counted
        if runner.iter + 1 != self.step or not is_main_process():
            return
        work_dir = Path(runner.work_dir)
        if self.change is not None:
            _counted = _Changes(work_dir, self.change, self.full), self.folder / 'count'
            return
        shutil.copytree(work_dir, self.folder / 'begin')
        if self._is_child(work_dir, 0):
            return
        count = int((self.folder / 'count').read_text())
        for change in _choose(count, self.every):
            if self._is_child(work_dir, change):
                return
        os._exit(0)

    def _is_child(self, work_dir: Path, change: int) -> bool:
        global _counted
        child = os.fork()
        if not child:
            _counted = _Changes(work_dir, change, self.full), self.folder / 'count'
            return True
        status = _wait(child)
        allowed = (0,) if not change else (0, 1) if self.full else (-signal.SIGKILL,)
        if status not in allowed:
            print(f'The child of change {change} ended with {status}.')
            os._exit(3)
        if change:
            shutil.copytree(work_dir, self.folder / str(change))
        shutil.rmtree(work_dir)
        shutil.copytree(self.folder / 'begin', work_dir)
        return False


def _wait(child: int) -> int:
    deadline = time.monotonic() + _SECONDS
    while time.monotonic() < deadline:
        found, status = os.waitpid(child, os.WNOHANG)
        if found:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.005)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return 124


def _train(config, output: Path, variables: dict[str, str]) -> None:
    """Train, and end this process: with 0, 1 after an error that the tools print as one line, or 2."""
    os.environ.update(variables)
    status = 2
    try:
        descriptor = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(descriptor, 1)
        os.dup2(descriptor, 2)
        torch.set_num_threads(1)
        # Packing the source takes longer than all else, and names are random.
        archive_module._SOURCE_FOLDERS = ()
        training.make_run_name = lambda **_: 'T00_run'
        training.train(config)
        _note_count()
        status = 0
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


def _run(config, output: Path, *allowed: int, processes: int = 1) -> None:
    """Train in so many new processes; the others end with the main one."""
    group = dict(WORLD_SIZE=str(processes), MASTER_ADDR='127.0.0.1', MASTER_PORT=_free_port(), LOCAL_RANK='0')
    started = []
    for rank in range(processes):
        variables = {**group, 'RANK': str(rank)} if processes > 1 else {}
        started.append(_processes.Process(target=_train, args=(config, output, variables)))
        started[-1].start()
    started[0].join(10 * _SECONDS)
    for other in started[1:]:
        # One that waits for the main process in vain.
        other.join(0 if started[0].exitcode else 10)
        other.kill()
    assert started[0].exitcode in (allowed or (0,)), output.read_text()[-3000:]


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
        facts['archive'] = {name: content.read(name) for name in content.namelist() if name != 'source.zip'}
    return facts


def _check(
    data_root,
    folder: Path,
    step: int,
    every: int | Sequence[int],
    full: bool = False,
    fork: bool = True,
    processes: int = 1,
    straight: dict | None = None,
    **options,
) -> tuple[int, int]:
    """Stop at the changes after a step, resume, and compare; how many changes there are, and how many were tried.

    ``straight`` are the facts of an undisturbed run of the same options, if there is one.
    """
    hooks = list(options.pop('hooks', ()))

    def run(name, more=(), allowed=(0,), **overrides) -> Path:
        config = _config(data_root, folder / name, hooks=[*hooks, *more], **overrides, **options)
        if processes > 1:
            config.launcher = 'pytorch'
        _run(config, folder / 'log', *allowed, processes=processes)
        return folder / name

    folder.mkdir()
    straight = straight or _facts(run('straight'))
    assert len(straight['record']['validations']) == 2 and straight['record']['state'] == 'finished'
    point = dict(type='KillHook', folder=str(folder), step=step, every=every, full=full)
    run('work', [point if fork else dict(point, change=0)])
    count = int((folder / 'count').read_text())
    for change in _choose(count, every):
        if not fork:
            # Who of several processes makes a folder first is a matter of chance, and so is the last change.
            run(str(change), [dict(point, change=change)], allowed=(-signal.SIGKILL, *([0] if processes > 1 else [])))
        _assert_equal(straight, _facts(run(str(change), resume=True)), f'change {change}')
        shutil.rmtree(folder / str(change))
    return count, len(_choose(count, every))


@pytest.fixture(scope='module')
def straight(data_root, tmp_path_factory) -> dict:
    folder = tmp_path_factory.mktemp('kills')
    _run(_config(data_root, folder / 'straight'), folder / 'log')
    return _facts(folder / 'straight')


@pytest.mark.parametrize(
    ('step', 'every', 'least'),
    [
        # From the last step of an epoch to the next: the killed validation was missing in metrics.csv, the record and the
        # archive, and another checkpoint could be the best.
        (2, [11], 10),
        # To the archive: in the last epoch nothing was validated after resume, and the submitted predictions were of another
        # checkpoint.
        (4, [8], 30),
        pytest.param(2, 1, 10, marks=pytest.mark.slow),
        pytest.param(4, 1, 30, marks=pytest.mark.slow),
    ],
)
def test_a_kill_after_the_last_step_of_an_epoch(data_root, tmp_path, straight, step, every, least):
    changes, kills = _check(data_root, tmp_path / 'kills', step, every, straight=straight)
    assert changes > least and kills == (len(every) if isinstance(every, list) else changes), (changes, kills)


@pytest.mark.slow
@pytest.mark.parametrize('step', [2, 4])
def test_a_disk_that_is_full_from_a_change_on(data_root, tmp_path, straight, step):
    changes, stops = _check(data_root, tmp_path / 'full', step, every=3, full=True, straight=straight)
    assert changes > 10 and stops > 3, (changes, stops)


_VARIANTS = dict(
    workers=dict(train_dataloader__num_workers=1, val_dataloader__num_workers=1, fork=False),
    accumulation=dict(optim_wrapper__accumulative_counts=3),
    averaged=dict(hooks=[dict(type='EMAHook', momentum=0.1)]),
    # The second validation is no improvement by so much, and the last.
    stopped=dict(
        hooks=[dict(type='EarlyStoppingHook', monitor='metrics_summary/depth', patience=1, min_delta=1e6)],
        train_cfg__max_epochs=5,
    ),
    gradients=dict(balancing=dict(type='AggregatedGradients', aggregator='UPGrad', place='parameters')),
    iterations=dict(config_file=ITER_CONFIG),
    processes=dict(train_dataloader__batch_size=2, processes=2, fork=False),
)


@pytest.mark.slow
@pytest.mark.parametrize('variant', _VARIANTS)
@pytest.mark.parametrize(('step', 'every'), [(2, 5), (4, 12)])
def test_a_kill_of_other_trainings(data_root, tmp_path, variant, step, every):
    changes, kills = _check(data_root, tmp_path / 'kills', step, every, **_VARIANTS[variant])
    assert changes > 5 and kills >= 3, (changes, kills)
