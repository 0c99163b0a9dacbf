"""A training that a signal ends, and that is resumed, is the training that no signal reached."""

import os
import signal
import threading

import pytest

from mtl_plugins.engine.hooks.preemption_hook import PreemptionHook
from mtl_plugins.errors import CheckpointError, TrainingInterrupted
from mtl_plugins.registry import RUNNERS
from mtl_plugins.utils.checkpoint_io import find_latest_checkpoint
from tests.engine.test_resume import _compare, _epochs, _iterations, _steps


def _train(config, signal_in: int | None = None, number: int = signal.SIGUSR1) -> list:
    """Train; during step ``signal_in`` the process gets a signal. The (iteration, samples, sum of pixels) of each step."""

    def act(runner) -> None:
        if runner.iter == signal_in:
            os.kill(os.getpid(), number)

    return _steps(config, act=act, ends_with=None if signal_in is None else TrainingInterrupted)


def test_epochs_go_on_in_mid_epoch(data_root, tmp_path):
    # Eight images in batches of two: four steps an epoch. The first signal falls into the second step of the first epoch, the
    # second into the last of it: the validation that follows is finished.
    before = signal.getsignal(signal.SIGUSR1), signal.getsignal(signal.SIGTERM)
    straight = _train(_epochs(data_root, tmp_path / 'straight', 2))
    folder = tmp_path / 'resumed'
    first = _train(_epochs(data_root, folder, 2), signal_in=1)
    assert [path.name for path in folder.glob('*.pth')] == ['interrupted.pth']
    folder = folder.rename(tmp_path / 'moved')
    with pytest.raises(CheckpointError, match=r'after 2 of 4 batches of an epoch, and this run has 2 batches an epoch'):
        RUNNERS.build(_epochs(data_root, folder, 2, resume=True, train_dataloader__batch_size=4)).train()
    second = _train(_epochs(data_root, folder, 2, resume=True), signal_in=3, number=signal.SIGTERM)
    assert find_latest_checkpoint(folder) == str(folder / 'interrupted.pth')
    third = _train(_epochs(data_root, folder, 2, resume=True))

    assert [len(part) for part in (first, second, third)] == [2, 2, 4]
    assert first + second + third == straight
    _compare(tmp_path / 'straight', folder)
    assert sorted(path.name for path in (tmp_path / 'straight').glob('*.pth')) == sorted(
        path.name for path in folder.glob('*.pth')
    )
    assert (signal.getsignal(signal.SIGUSR1), signal.getsignal(signal.SIGTERM)) == before


def test_iterations_stop_between_optimizer_steps_and_after_a_validation_that_is_due(data_root, tmp_path):
    def config(work_dir, **overrides):
        options = dict(default_hooks__checkpoint__interval=4, optim_wrapper__accumulative_counts=2, **overrides)
        return _iterations(data_root, work_dir, 6, 2, **options)

    straight = _train(config(tmp_path / 'straight'))
    first = _train(config(tmp_path / 'resumed'), signal_in=0)
    second = _train(config(tmp_path / 'resumed', resume=True))
    assert len(first) == 2 and first + second == straight
    _compare(tmp_path / 'straight', tmp_path / 'resumed')


def test_under_torchrun_sigterm_is_the_launchers(monkeypatch):
    assert PreemptionHook().signals == ('SIGUSR1', 'SIGTERM')
    monkeypatch.setenv('TORCHELASTIC_RUN_ID', 'any')
    assert PreemptionHook().signals == ('SIGUSR1',)
    with pytest.raises(ValueError, match=r'`interval` should be positive. Found 0'):
        PreemptionHook(interval=0)


def test_a_forked_worker_dies_of_the_signal_that_the_training_catches():
    # Pools of processes end their workers by SIGTERM, and used to wait for one that caught it for ever.
    hook, previous = PreemptionHook(), signal.getsignal(signal.SIGTERM)
    hook.before_train(None)
    pid = os.fork()
    if pid == 0:
        os.kill(os.getpid(), signal.SIGTERM)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGTERM
    hook.release()
    assert signal.getsignal(signal.SIGTERM) is previous
    # In a thread there are no handlers to set.
    thread = threading.Thread(target=PreemptionHook().before_train, args=(None,))
    thread.start()
    thread.join()
    assert signal.getsignal(signal.SIGTERM) is previous
