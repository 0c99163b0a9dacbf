"""A sweep as an array job of SLURM."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from mtl_plugins.errors import ConfigError, UserError
from mtl_plugins.utils.files import replacing

SCRIPT_NAME = 'sweep.sbatch'


def submit(name: str, work_dir: Path, workers: int, command: Sequence[str], sbatch_arguments: str = '') -> str:
    """Write the script of an array job with a worker per task into the work dir, and submit it.

    Args:
        name: Name of the job.
        work_dir: Folder of the sweep, on a disk that the nodes share.
        workers: Tasks of the array.
        command: ``tools/sweep.py`` and its arguments, ``--worker`` included.
        sbatch_arguments: Further ones of ``sbatch``, such as ``--partition=gpu --gres=gpu:1 --time=8:00:00``.

    Returns:
        The answer of ``sbatch``.

    Raises:
        ConfigError: If there is less than one worker, the further arguments cannot be split, or a name has control characters.
        UserError: If there is no ``sbatch``, or it refuses; the script is written.
    """
    if workers < 1:
        raise ConfigError(f'`--slurm` takes a positive number of workers. Found {workers}.')
    try:
        further = shlex.split(sbatch_arguments)
    except ValueError as error:
        raise ConfigError(f'`--sbatch-args` takes arguments as in a shell. Found {sbatch_arguments!r} ({error}).') from error
    script = work_dir / SCRIPT_NAME
    with replacing(script) as temporary:
        temporary.write_text(script_of(name, work_dir, workers, command), encoding='utf-8')
    submission = shlex.join(['sbatch', *further, str(script)])
    if shutil.which('sbatch') is None:
        raise UserError(f'There is no `sbatch` on PATH here. {script} is written: run `{submission}` on a login node.')
    done = subprocess.run(['sbatch', *further, str(script)], capture_output=True, text=True)
    if done.returncode:
        raise UserError(f'`{submission}` was refused: {done.stderr.strip()}')
    return done.stdout.strip()


def script_of(name: str, work_dir: Path, workers: int, command: Sequence[str]) -> str:
    """Return the text of the script. A task that is requeued continues its training.

    Raises:
        ConfigError: If a name or path has control characters: a line break would begin a command.
    """
    folder, command = os.getcwd(), [sys.executable, '-u', *command]
    for text in (name, str(work_dir), folder, *command):
        if not text.isprintable():
            raise ConfigError(f'Names and paths of a batch job take no control characters. Found {text!r}.')
    # In the name of a log `%` begins what SLURM fills in.
    log = _quote(str(work_dir).replace('%', '%%')) + '/slurm-%A_%a.log'
    return f"""#!/usr/bin/env bash
#SBATCH --job-name={_quote(name)}
#SBATCH --array=0-{workers - 1}
#SBATCH --requeue
#SBATCH --output={log}
cd {shlex.quote(folder)}
exec srun --ntasks=1 {shlex.join(command)}
"""


def _quote(text: str) -> str:
    """``text`` as one word for ``sbatch``, which takes a backslash within quotes, too, for one that quotes."""
    return re.sub(r'[^\w@%+=:,./-]', r'\\\g<0>', text)
