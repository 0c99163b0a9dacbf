"""Iterations of a real run, in turns with bare steps."""

import contextlib
import io
import time
from collections.abc import Callable
from pathlib import Path

from mmengine.hooks import Hook

from benchmarks.joint_model import joint_config
from mtl_plugins.registry import RUNNERS

WARMUP = 4
# The last iterations of an epoch find no more data to load: they are left out.
REST = 4
WITH_PICTURES = 'loop with histograms and crops'


class _InterleavedSteps(Hook):
    """Times blocks of iterations, and as many bare steps after each block.

    The loader's queue is full when the bare steps begin, as it is when a training step begins, so the pause gives the loop
    at most one batch for nothing. In every second block an iteration draws, see :func:`time_training_loop`.
    """

    priority = 'LOWEST'

    def __init__(self, bare_step: Callable[[], object], block: int, num_blocks: int) -> None:
        self.bare_step, self.block, self.num_blocks = bare_step, block, num_blocks
        self.times: dict[str, list[float]] = {'loop': [], 'drawing': [], 'bare step': []}
        self._start = 0.0

    def after_train_iter(self, runner, batch_idx: int, data_batch: dict | None = None, outputs: dict | None = None) -> None:
        done = batch_idx + 1 - WARMUP
        if done < 0 or done % self.block or len(self.times['drawing']) == self.num_blocks:
            return
        if done > 0:
            name = 'drawing' if done // self.block % 2 == 0 else 'loop'
            self._note(name)
            for _ in range(self.block):
                self.bare_step()
            if name == 'loop':
                self._note('bare step')
        self._start = time.perf_counter()

    def _note(self, name: str) -> None:
        now = time.perf_counter()
        self.times[name].append((now - self._start) / self.block * 1e3)
        self._start = now


def time_training_loop(
    *,
    data_root: Path,
    work_dir: Path,
    batch_size: int,
    crop_size: int,
    bare_step: Callable[[], object],
    block: int,
    num_blocks: int,
    num_workers: int,
    seed: int,
) -> dict[str, list[float]]:
    """Milliseconds per iteration of ``'loop'``, of ``'bare step'``, and of the loop ``WITH_PICTURES``, one number per block.

    The run is that of ``tools/train.py``: the joint config with its default hooks, thread workers reading files, one log line
    per block. Validation and checkpoints lie outside the time. In the first of two blocks nothing is drawn. In the second one
    iteration draws histograms and training crops; what that takes longer is spread over their default interval.
    """
    num_iterations = WARMUP + 2 * num_blocks * block + REST
    config = joint_config(
        str(data_root),
        train_dataloader__batch_size=batch_size,
        train_dataloader__num_workers=num_workers,
        train_dataloader__dataset__pipeline__1__crop_size=crop_size,
        train_cfg__max_epochs=1,
        default_hooks__logger__interval=block,
        randomness__seed=seed,
    )
    hooks = config.default_hooks
    interval = hooks.histograms.interval
    assert interval == hooks.pictures.training.interval, 'They should draw at the same iteration.'
    hooks.histograms.interval = hooks.pictures.training.interval = 2 * block
    num_files = len(list((data_root / 'train' / 'rgb').iterdir()))
    config.train_dataloader.dataset.indices = [index % num_files for index in range(num_iterations * batch_size)]
    for key in ('val_dataloader', 'val_cfg', 'val_evaluator', 'test_dataloader', 'test_cfg', 'test_evaluator'):
        config[key] = None
    config.work_dir = str(work_dir)
    steps = _InterleavedSteps(bare_step, block, num_blocks)
    # The log goes through the same formatting, but not to the terminal.
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        runner = RUNNERS.build(config)
        runner.register_hook(steps)
        runner.train()
    times = steps.times
    drawing = [with_ - without for with_, without in zip(times.pop('drawing'), times['loop'], strict=True)]
    times[WITH_PICTURES] = [without + block * more / interval for without, more in zip(times['loop'], drawing, strict=True)]
    return times
