"""Peak memory of a process that validates."""

import contextlib
import io
import sys
from collections.abc import Sequence
from pathlib import Path

import torch

from mtl_plugins.benchmarks.joint_model import joint_config
from mtl_plugins.registry import RUNNERS

# What a Runner that only validates must not be given.
UNUSED = (
    'train_dataloader',
    'train_cfg',
    'optim_wrapper',
    'param_scheduler',
    'test_dataloader',
    'test_cfg',
    'test_evaluator',
)
_STATUS = Path('/proc/self/status')


def is_supported() -> bool:
    """Whether the system tells the peak of a process."""
    return sys.platform == 'linux'


def peak_mib() -> float:
    """Largest resident memory so far. Not ``ru_maxrss``, which a new process takes over from the one that started it."""
    line = next(line for line in _STATUS.read_text().splitlines() if line.startswith('VmHWM'))
    return int(line.split()[1]) / 1024


def measure_growth(data_root: Path, work_dir: Path, evaluator: list[dict], counts: Sequence[int], threads: int) -> list[float]:
    """MiB at the peak after validating each number of images in turn: model, loader, data samples, metrics, hooks."""
    torch.set_num_threads(threads)
    config = joint_config(str(data_root), val_dataloader__num_workers=threads)
    config.val_dataloader.dataset.split = 'train'
    for key in (
        'train_dataloader',
        'train_cfg',
        'optim_wrapper',
        'param_scheduler',
        'test_dataloader',
        'test_cfg',
        'test_evaluator',
    ):
        config[key] = None
    config.val_evaluator = evaluator
    config.default_hooks.checkpoint = None
    config.work_dir = str(work_dir)
    num_files = len(list((data_root / 'train' / 'rgb').iterdir()))
    peaks = []
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        runner = RUNNERS.build(config)
        for count in counts:
            loader = config.val_dataloader.copy()
            loader.dataset.indices = [index % num_files for index in range(count)]
            runner.val_loop.dataloader = runner.build_dataloader(loader, seed=0)
            runner.val()
            peaks.append(peak_mib())
    return peaks
