"""The training step beside its peers, what it keeps for the backward pass, and the whole loop beside the bare step."""

import contextlib
import io
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from mmengine.hooks import Hook

from benchmarks.contenders import (
    CONFIG,
    NARROW_CONFIG,
    SEPARABLE_CONFIG,
    Batch,
    build_joint_model,
    joint_config,
    mmseg_step,
    our_step,
    smp_step,
)
from benchmarks.results import Measurement, Options, Ratio, Result
from benchmarks.scenes import render_arrays, write_scenes
from benchmarks.timing import interleave
from mtl_plugins.registry import RUNNERS

# Iterations between two bare steps of the loop; one of them logs.
BLOCK = 10
WARMUP = 4
# The last iterations of an epoch find no more data to load: they are left out.
REST = 4


def run(options: Options) -> Result:
    """Forward, losses, backward and Adam on one batch of normalised images; the loop adds data, hooks and logging."""
    crop, batch_size = (64, 2) if options.quick else (256, 4)
    scenes = render_arrays(batch_size, (crop, 2 * crop), options.seed)
    batch = Batch.from_scenes(scenes, (crop, crop), options.device)
    torch.manual_seed(options.seed)
    contenders = {
        'ours fp32': our_step(batch),
        'ours bf16': our_step(batch, bf16=True),
        'ours separable fp32': our_step(batch, build_joint_model(SEPARABLE_CONFIG)),
        'ours separable bf16': our_step(batch, build_joint_model(SEPARABLE_CONFIG), bf16=True),
        'ours separable, 128 channels, fp32': our_step(batch, build_joint_model(NARROW_CONFIG)),
        'smp fp32': smp_step(batch),
        'smp fp32, channels last': smp_step(batch, memory_format=torch.channels_last),
        'smp bf16, channels last': smp_step(batch, memory_format=torch.channels_last, bf16=True),
        'mmseg fp32': mmseg_step(batch),
    }
    saved = {name: [contender.saved_mib() / batch_size] for name, contender in contenders.items()}
    times = interleave(contenders, options.repeats, device=options.device, processor_time=options.processor_time)
    with tempfile.TemporaryDirectory() as folder:
        num_scenes = 8 if options.quick else 64
        root = write_scenes(Path(folder, 'data'), num_scenes, (crop, 2 * crop), options.seed, options.threads)
        bare_step, work_dir = contenders['ours fp32'], Path(folder, 'run')
        loop = _time_training_loop(bare_step, root, work_dir, batch_size, crop, 2 if options.quick else BLOCK, options)

    step = Measurement('step', 'ms', times)
    memory = Measurement('saved for backward, per image', 'MiB', saved)
    whole = Measurement('iteration of the whole loop', 'ms', loop)
    return Result(
        name='train',
        settings=dict(
            config=CONFIG,
            separable_config=SEPARABLE_CONFIG,
            narrow_config=NARROW_CONFIG,
            crop_size=crop,
            batch_size=batch_size,
            loop_block=BLOCK,
            num_scenes=num_scenes,
            device=options.device,
        ),
        measurements=[step, memory, whole],
        ratios=[
            Ratio('smp fp32 / ours fp32', step, 'smp fp32', 'ours fp32', target=1.15),
            Ratio('mmseg fp32 (labels only) / ours fp32', step, 'mmseg fp32', 'ours fp32', target=1.4),
            Ratio('smp fp32 / ours bf16', step, 'smp fp32', 'ours bf16', target=1.8),
            Ratio('smp fp32 / ours separable fp32', step, 'smp fp32', 'ours separable fp32', target=1.15),
            Ratio('smp fp32 / ours separable bf16', step, 'smp fp32', 'ours separable bf16', target=1.8),
            Ratio('smp fp32 / ours separable, 128 channels, fp32', step, 'smp fp32', 'ours separable, 128 channels, fp32'),
            Ratio('smp fp32, channels last / ours fp32', step, 'smp fp32, channels last', 'ours fp32'),
            Ratio('smp fp32, channels last / ours separable fp32', step, 'smp fp32, channels last', 'ours separable fp32'),
            Ratio('smp bf16, channels last / ours separable bf16', step, 'smp bf16, channels last', 'ours separable bf16'),
            Ratio('smp bf16, channels last / ours bf16', step, 'smp bf16, channels last', 'ours bf16'),
            Ratio('saved: ours fp32 / smp fp32', memory, 'ours fp32', 'smp fp32', target=0.75, bound='most'),
            Ratio('saved: ours bf16 / smp fp32', memory, 'ours bf16', 'smp fp32'),
            Ratio('saved: ours separable fp32 / smp fp32', memory, 'ours separable fp32', 'smp fp32'),
            Ratio('whole loop / bare step', whole, 'loop', 'bare step', target=1.08, bound='most'),
        ],
    )


class _InterleavedSteps(Hook):
    """Times blocks of iterations, and as many bare steps after each block.

    The loader's queue is full when the bare steps begin, as it is when a training step begins, so the pause gives the loop
    at most one batch for nothing.
    """

    priority = 'LOWEST'

    def __init__(self, bare_step: Callable[[], object], block: int, num_blocks: int) -> None:
        self.bare_step, self.block, self.num_blocks = bare_step, block, num_blocks
        self.times: dict[str, list[float]] = {'loop': [], 'bare step': []}
        self._start = 0.0

    def after_train_iter(self, runner, batch_idx: int, data_batch: dict | None = None, outputs: dict | None = None) -> None:
        done = batch_idx + 1 - WARMUP
        if done < 0 or done % self.block or len(self.times['loop']) == self.num_blocks:
            return
        if done > 0:
            self._note('loop')
            for _ in range(self.block):
                self.bare_step()
            self._note('bare step')
        self._start = time.perf_counter()

    def _note(self, name: str) -> None:
        now = time.perf_counter()
        self.times[name].append((now - self._start) / self.block * 1e3)
        self._start = now


def _time_training_loop(
    bare_step: Callable[[], object],
    data_root: Path,
    work_dir: Path,
    batch_size: int,
    crop_size: int,
    block: int,
    options: Options,
) -> dict[str, list[float]]:
    """Return milliseconds per iteration of ``'loop'`` and of ``'bare step'``, one number per block.

    The run is that of ``tools/train.py``: the joint config with its default hooks, thread workers reading files, one log line
    per block. Validation, checkpoints and pictures are outside the time.
    """
    num_iterations = WARMUP + options.repeats * block + REST
    config = joint_config(
        str(data_root),
        train_dataloader__batch_size=batch_size,
        train_dataloader__num_workers=options.threads,
        train_dataloader__dataset__pipeline__1__crop_size=crop_size,
        train_cfg__max_epochs=1,
        default_hooks__logger__interval=block,
        randomness__seed=options.seed,
    )
    num_files = len(list((data_root / 'train' / 'rgb').iterdir()))
    config.train_dataloader.dataset.indices = [index % num_files for index in range(num_iterations * batch_size)]
    for key in ('val_dataloader', 'val_cfg', 'val_evaluator', 'test_dataloader', 'test_cfg', 'test_evaluator'):
        config[key] = None
    config.work_dir = str(work_dir)
    steps = _InterleavedSteps(bare_step, block, options.repeats)
    # The log goes through the same formatting, but not to the terminal.
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        runner = RUNNERS.build(config)
        runner.register_hook(steps)
        runner.train()
    return steps.times
