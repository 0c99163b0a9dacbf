"""Stopping under ``torchrun``: the protocol of ``tools/launch.py`` and the training.

``torchrun`` ends its workers with SIGTERM and a deadline, and starts them again when they leave with another status than 0. So
the launcher keeps signals from it: it notes them in a folder that the workers look into, and they note there that they stopped.
"""

import os
from pathlib import Path

# The status "temporary failure: try again" of sysexits.h.
INTERRUPTED_CODE = 75
FOLDER_VARIABLE = 'MTL_LAUNCHER_FOLDER'
SIGNALS = ('SIGUSR1', 'SIGTERM')
STOP, INTERRUPTED = 'stop', 'interrupted'


def is_under_torchrun() -> bool:
    """Return True if ``torchrun`` started this process."""
    return 'TORCHELASTIC_RUN_ID' in os.environ


def stop_file() -> Path | None:
    """Return the file that the launcher of this process makes when it gets a signal; None without a launcher."""
    folder = os.environ.get(FOLDER_VARIABLE)
    return Path(folder, STOP) if folder else None


def interrupted_status() -> int:
    """Return the status with which an interrupted training leaves: 0 under ``torchrun``, whose launcher then gives the code."""
    if FOLDER_VARIABLE in os.environ:
        Path(os.environ[FOLDER_VARIABLE], INTERRUPTED).touch()
    return 0 if is_under_torchrun() else INTERRUPTED_CODE
