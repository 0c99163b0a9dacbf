"""Peak memory of a process that validates, but for the network's."""

import contextlib
import io
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from mmengine.model import BaseModel
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample
from torch import Tensor

from benchmarks.joint_model import joint_config
from mtl_plugins.registry import MODELS, RUNNERS

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
_FIELDS = dict(semseg='sem_seg', depth='depth_map')


@MODELS.register_module()
class LabelEcho(BaseModel):
    """A model without a network: predicts copies of the labels, as data samples like those of the real model.

    Args:
        data_preprocessor: Config.
    """

    def __init__(self, *, data_preprocessor: dict) -> None:
        super().__init__(data_preprocessor=MODELS.build(data_preprocessor))

    def forward(
        self,
        inputs: Tensor,
        targets: dict[str, Tensor],
        sample_idx: Tensor,
        metainfo: list[dict],
        mode: str = 'predict',
    ) -> list[SegDataSample]:
        predictions = {task: maps.clone() for task, maps in targets.items()}
        # No prediction is 0 metres.
        predictions['depth'].clamp_(min=1)
        samples = []
        for index, meta in enumerate(metainfo):
            sample = SegDataSample(metainfo={**meta, 'sample_idx': int(sample_idx[index])})
            for source, prefix in ((predictions, 'pred'), (targets, 'gt')):
                for task, maps in source.items():
                    sample.set_field(PixelData(data=maps[index : index + 1]), f'{prefix}_{_FIELDS[task]}', dtype=PixelData)
            samples.append(sample)
        return samples


def is_supported() -> bool:
    """Whether the system tells the peak of a process."""
    return sys.platform == 'linux'


def peak_mib() -> float:
    """Largest resident memory so far. Not ``ru_maxrss``, which a new process takes over from the one that started it."""
    line = next(line for line in _STATUS.read_text(encoding='utf-8').splitlines() if line.startswith('VmHWM'))
    return int(line.split()[1]) / 1024


def measure_growth(data_root: Path, work_dir: Path, evaluator: list[dict], counts: Sequence[int], threads: int) -> list[float]:
    """MiB at the peak after validating each number of images in turn: loader, data samples, metrics, hooks."""
    torch.set_num_threads(threads)
    config = joint_config(str(data_root), val_dataloader__num_workers=threads)
    config.model = dict(type='LabelEcho', data_preprocessor=config.model.data_preprocessor)
    config.val_dataloader.dataset.split = 'train'
    for key in UNUSED:
        config[key] = None
    config.default_hooks.checkpoint = None
    # There is no network to fold.
    config.val_cfg = dict(type='mmengine.ValLoop')
    config.val_evaluator = evaluator
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
