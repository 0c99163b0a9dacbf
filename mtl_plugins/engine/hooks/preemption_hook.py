"""Stopping on a signal, with a checkpoint that resumes exactly."""

import os
import signal
import threading

import torch
from mmengine.dist import get_world_size
from mmengine.hooks import Hook

from mtl_plugins.engine.hooks.checkpoint_hook import AtomicCheckpointHook
from mtl_plugins.engine.loops import EpochBasedTrainLoop
from mtl_plugins.errors import ArgumentError, TrainingInterrupted
from mtl_plugins.registry import HOOKS
from mtl_plugins.utils.launcher import SIGNALS, interrupted_status, is_under_torchrun, stop_file


@HOOKS.register_module()
class PreemptionHook(Hook):
    """On SIGUSR1 or SIGTERM end the training before its next step, with a checkpoint that ``--resume`` continues exactly.

    Iterations that only accumulate gradients, and a validation that is under way or due, are finished first: a cluster should
    give longer notice than that.

    Several processes stop before the same iteration, no matter which of them got the signal: every ``interval`` iterations each
    starts a maximum over "I was asked" on the CPU, which runs beside the training, and reads the one that it started ``interval``
    iterations ago. The stop comes at most twice ``interval`` iterations after the signal. Under ``torchrun``, which ends the
    workers of a broken group by SIGTERM, only SIGUSR1 counts; ``tools/launch.py`` takes both.

    Args:
        interval: Iterations between two agreements of several processes.

    Raises:
        ArgumentError: If ``interval`` is not positive.
        TrainingInterrupted: Out of the training, when the state is saved.
    """

    priority = 'VERY_HIGH'

    def __init__(self, interval: int = 10) -> None:
        if interval < 1:
            raise ArgumentError(f'`interval` should be positive. Found {interval}.')
        self.interval = interval
        self.signals = tuple(name for name in SIGNALS if name != 'SIGTERM' or not is_under_torchrun())
        self._received: str | None = None
        self._stop_file = stop_file()
        self._agreed = False
        self._previous: dict[int, object] = {}
        self._group = None
        self._pending: tuple[object, torch.Tensor] | None = None

    def before_train(self, runner) -> None:
        if get_world_size() > 1:
            self._group = torch.distributed.new_group(backend='gloo')
        # Python takes signals in the main thread only.
        if threading.current_thread() is threading.main_thread():
            process = os.getpid()
            for name in self.signals:
                number = getattr(signal, name)
                self._previous[number] = signal.signal(number, lambda *_, name=name: self._receive(name, process))

    def _receive(self, name: str, process: int) -> None:
        if os.getpid() == process:
            self._received = name
            return
        # A forked worker, which inherits this handler: for it the signal means what it always means.
        signal.signal(getattr(signal, name), signal.SIG_DFL)
        os.kill(os.getpid(), getattr(signal, name))

    def release(self) -> None:
        while self._previous:
            signal.signal(*self._previous.popitem())

    def after_train(self, runner) -> None:
        self._finish_agreement()
        self.release()

    def before_train_iter(self, runner, batch_idx: int, data_batch: dict | None = None) -> None:
        if not self._is_agreed(runner.iter) or not runner.optim_wrapper.should_update():
            return
        self._finish_agreement()
        hook = next((hook for hook in runner.hooks if isinstance(hook, AtomicCheckpointHook)), None)
        if hook is None:
            runner.logger.warning('Stopped by a signal. Nothing was saved: the config has no AtomicCheckpointHook.')
        else:
            meta = dict(epoch=runner.epoch, iter=runner.iter)
            if isinstance(runner.train_loop, EpochBasedTrainLoop):
                meta['position'] = dict(batches=batch_idx, of=len(runner.train_dataloader))
            path = hook.save_interrupted(runner, meta)
            runner.logger.info(
                f'Stopped by {self._received or "a signal"} after iteration {runner.iter}. The state is in {path}: pass --resume '
                'to continue exactly there.'
            )
        self.release()
        raise TrainingInterrupted(interrupted_status())

    def _is_agreed(self, iteration: int) -> bool:
        if self._agreed:
            return True
        if self._group is None:
            self._agreed = self._is_asked()
        elif iteration % self.interval == 0:
            self._finish_agreement()
            if not self._agreed:
                asked = torch.tensor([int(self._is_asked())])
                work = torch.distributed.all_reduce(asked, torch.distributed.ReduceOp.MAX, group=self._group, async_op=True)
                self._pending = (work, asked)
        return self._agreed

    def _is_asked(self) -> bool:
        return self._received is not None or (self._stop_file is not None and self._stop_file.exists())

    def _finish_agreement(self) -> None:
        if self._pending is not None:
            work, asked = self._pending
            self._pending = None
            work.wait()
            self._agreed = bool(asked)
