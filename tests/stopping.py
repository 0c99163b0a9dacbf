"""A hook that hurts a training at a chosen iteration, once."""

import os
import signal
import time
from pathlib import Path

from mmengine.dist import get_rank
from mmengine.hooks import Hook

from mtl_plugins.registry import HOOKS
from mtl_plugins.utils.launcher import stop_file


@HOOKS.register_module()
class HurtOnceHook(Hook):
    """The process ``rank`` sends a signal before an iteration, unless the file ``marker`` says that it did so before.

    The signal is for itself, or for the process that ``pid_file`` names, on whose launcher the training then waits.
    """

    priority = 'HIGHEST'

    def __init__(self, marker: str, iteration: int, name: str, rank: int = 0, pid_file: str | None = None) -> None:
        self.marker = Path(marker)
        self.iteration = iteration
        self.signal = getattr(signal, name)
        self.rank = rank
        self.pid_file = pid_file

    def before_train_iter(self, runner, batch_idx: int, data_batch: dict | None = None) -> None:
        if runner.iter == self.iteration and get_rank() == self.rank and not self.marker.exists():
            self.marker.touch()
            os.kill(int(Path(self.pid_file).read_text()) if self.pid_file else os.getpid(), self.signal)
            deadline = time.monotonic() + 60
            while self.pid_file and not stop_file().exists() and time.monotonic() < deadline:
                time.sleep(0.02)
