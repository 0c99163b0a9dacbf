"""Provenance of the numbers of a run: code, packages, computer."""

import datetime
import os
import platform
import shlex
import socket
import subprocess
import sys
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path
from typing import Any

PACKAGE = Path(__file__).resolve().parents[1]
_OPENMMLAB = ('mmengine', 'mmcv', 'mmsegmentation')
_PACKAGES = (
    'mtl_plugins',
    'torch',
    'torchvision',
    *(f'onedl-{name}' for name in _OPENMMLAB),
    *_OPENMMLAB,
    'mmcv-lite',
    'numpy',
    'timm',
)
_PATIENCE_SECONDS = 10


def provenance() -> dict[str, Any]:
    """Return the fields of a session that hold for all of it: ``host``, ``pid``, ``command``, ``code`` and ``versions``."""
    return dict(
        host=socket.gethostname(),
        pid=os.getpid(),
        command=shlex.join(sys.argv),
        code=code_state(),
        versions=package_versions(),
    )


def measured_here(device: str = 'cpu', packages: Iterable[str] = ()) -> dict[str, Any]:
    """Return commit, date, versions, also of more ``packages``, and machine of a measurement, and how busy the machine was."""
    import torch

    code = code_state()
    return dict(
        commit=code['commit'],
        uncommitted_changes=code['clean'] is False,
        date=datetime.datetime.now(datetime.timezone.utc).isoformat(timespec='seconds'),
        command=' '.join(sys.argv),
        versions=package_versions(packages),
        system=platform.platform(),
        cpu=processor_name(),
        cpu_cores=os.cpu_count(),
        cpu_capability=torch.backends.cpu.get_cpu_capability(),
        device=torch.cuda.get_device_name(device) if device.startswith('cuda') else 'cpu',
        load_average=os.getloadavg()[0],
        threads=torch.get_num_threads(),
    )


def code_state(folder: Path = PACKAGE) -> dict[str, Any]:
    """Return ``commit`` and ``clean`` of the git repository that tracks ``folder``; both None if none does, or without git."""
    # A package that was installed into an environment inside another repository is not of that repository.
    tracked = _git(folder, 'ls-files')
    commit = _git(folder, 'rev-parse', 'HEAD') if tracked else None
    changes = _git(folder, 'status', '--porcelain') if commit else None
    return dict(commit=commit or None, clean=None if changes is None else not changes)


def _git(folder: Path, *arguments: str) -> str | None:
    command = ['git', '-C', str(folder), *arguments]
    try:
        run = subprocess.run(command, capture_output=True, text=True, timeout=_PATIENCE_SECONDS)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return run.stdout.strip() if run.returncode == 0 else None


def package_versions(more: Iterable[str] = ()) -> dict[str, str]:
    """Return the versions of Python, and of what is installed of the packages that decide what is computed and of ``more``."""
    versions = dict(python=platform.python_version())
    for name in (*_PACKAGES, *more):
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return versions


def processor_name() -> str:
    try:
        lines = Path('/proc/cpuinfo').read_text(encoding='utf-8').splitlines()
    except OSError:
        lines = []
    named = [line.split(':', 1)[1].strip() for line in lines if line.startswith('model name')]
    return named[0] if named else platform.processor() or platform.machine()
