"""A hook that hurts a training at a chosen iteration, once."""

import os
import signal
from pathlib import Path

from mmengine.dist import get_rank
from mmengine.hooks import Hook

from mtl_plugins.registry import HOOKS


@HOOKS.register_module()
class HurtOnceHook(Hook):
    """The process ``rank`` sends itself a signal before an iteration, unless the file ``marker`` says that it did so before."""

    priority = 'HIGHEST'

    def __init__(self, marker: str, iteration: int, name: str, rank: int = 0) -> None:
        self.marker = Path(marker)
        self.iteration = iteration
        self.signal = getattr(signal, name)
        self.rank = rank

    def before_train_iter(self, runner, batch_idx: int, data_batch: dict | None = None) -> None:
        if runner.iter == self.iteration and get_rank() == self.rank and not self.marker.exists():
            self.marker.touch()
            os.kill(os.getpid(), self.signal)
