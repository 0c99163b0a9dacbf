"""A sweep as an array job of SLURM."""

import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from mtl_plugins.errors import ConfigError, UserError
from mtl_plugins.utils.files import replacing

ROOT = Path(__file__).resolve().parents[3]
SCRIPT_NAME = 'sweep.sbatch'


def submit(name: str, work_dir: Path, workers: int, arguments: Sequence[str], sbatch_arguments: str = '') -> str:
    """Write the script of an array job with a worker per task into the work dir, and submit it.

    Args:
        name: Name of the job.
        work_dir: Folder of the sweep, on a disk that the nodes share.
        workers: Tasks of the array.
        arguments: Those of ``tools/sweep.py``, ``--worker`` included.
        sbatch_arguments: Further ones of ``sbatch``, such as ``--partition=gpu --gres=gpu:1 --time=8:00:00``.

    Returns:
        What ``sbatch`` said.

    Raises:
        ConfigError: If there is less than one worker.
        UserError: If there is no ``sbatch``, or it refuses; the script is written.
    """
    if workers < 1:
        raise ConfigError(f'`--slurm` should be a positive number of workers. Found {workers}.')
    script = work_dir / SCRIPT_NAME
    with replacing(script) as temporary:
        temporary.write_text(script_of(name, work_dir, workers, arguments), encoding='utf-8')
    command = ['sbatch', *shlex.split(sbatch_arguments), str(script)]
    if shutil.which('sbatch') is None:
        raise UserError(f'There is no `sbatch` on PATH here. {script} is written: run `{shlex.join(command)}` on a login node.')
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise UserError(f'`{shlex.join(command)}` was refused: {done.stderr.strip()}')
    return done.stdout.strip()


def script_of(name: str, work_dir: Path, workers: int, arguments: Sequence[str]) -> str:
    """The text of the script. A task that is requeued takes its trial up again."""
    command = shlex.join([sys.executable, '-u', str(ROOT / 'tools' / 'sweep.py'), *arguments])
    log = f'{work_dir}/slurm-%A_%a.log'
    return f"""#!/usr/bin/env bash
#SBATCH --job-name={name}
#SBATCH --array=0-{workers - 1}
#SBATCH --requeue
#SBATCH --output={log}
cd {shlex.quote(os.getcwd())}
exec srun --ntasks=1 {command}
"""
