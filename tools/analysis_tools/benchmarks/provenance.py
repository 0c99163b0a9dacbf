"""Where and how numbers were made."""

import datetime
import os
import platform
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import torch

from benchmarks.results import Options

ROOT = Path(__file__).resolve().parents[3]
_DISTRIBUTIONS = (
    'torch',
    'torchvision',
    'onedl-mmengine',
    'onedl-mmcv',
    'onedl-mmsegmentation',
    'segmentation-models-pytorch',
    'timm',
    'numpy',
    'opencv-python',
    'pillow',
    'onnxruntime',
    'openvino',
    'nncf',
)


def provenance(options: Options) -> dict:
    """Commit, date, versions, machine and options; ``load_average`` tells how busy the machine was before."""
    on_gpu = options.device.startswith('cuda')
    return dict(
        commit=_git('rev-parse', 'HEAD'),
        uncommitted_changes=bool(_git('status', '--porcelain', '--untracked-files=no')),
        date=datetime.datetime.now(datetime.timezone.utc).isoformat(timespec='seconds'),
        command=' '.join(sys.argv),
        versions={'python': platform.python_version(), **{name: _version(name) for name in _DISTRIBUTIONS}},
        system=platform.platform(),
        cpu=_cpu_model(),
        cpu_cores=os.cpu_count(),
        cpu_capability=torch.backends.cpu.get_cpu_capability(),
        device=torch.cuda.get_device_name(options.device) if on_gpu else 'cpu',
        load_average=os.getloadavg()[0] if hasattr(os, 'getloadavg') else None,
        threads=options.threads,
        repeats=options.repeats,
        quick=options.quick,
        seed=options.seed,
    )


def _git(*arguments: str) -> str | None:
    try:
        run = subprocess.run(['git', '-C', str(ROOT), *arguments], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return run.stdout.strip()


def _version(distribution: str) -> str | None:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


def _cpu_model() -> str:
    try:
        lines = Path('/proc/cpuinfo').read_text(encoding='utf-8').splitlines()
    except OSError:
        return platform.processor()
    return next((line.split(':', 1)[1].strip() for line in lines if line.startswith('model name')), platform.processor())
