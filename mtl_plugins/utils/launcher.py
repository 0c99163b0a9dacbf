"""``torchrun`` that can be asked to stop: the protocol of ``tools/launch.py`` and the training.

``torchrun`` ends its workers with SIGTERM and a deadline, and starts them again when they leave with another status than 0. So
the launcher keeps signals from it: it notes them in a folder that the workers look into, and they note there that they stopped.
"""

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

# The status "temporary failure: try again" of sysexits.h.
INTERRUPTED_CODE = 75
FOLDER_VARIABLE = 'MTL_LAUNCHER_FOLDER'
SIGNALS = ('SIGUSR1', 'SIGTERM')
_STOP, _INTERRUPTED = 'stop', 'interrupted'


def launch(arguments: Sequence[str]) -> int:
    """Run ``torchrun`` with ``arguments``; SIGUSR1 and SIGTERM ask the training to save its state and stop.

    Returns:
        The exit status of ``torchrun``, or :data:`INTERRUPTED_CODE` if the training stopped because of a signal.
    """
    with tempfile.TemporaryDirectory(prefix='mtl_launch_') as name:
        folder = Path(name)
        for signal_name in SIGNALS:
            signal.signal(getattr(signal, signal_name), lambda *_: (folder / _STOP).touch())
        # Its own session: a signal to the group of this process is not for it.
        process = subprocess.Popen(
            [sys.executable, '-m', 'torch.distributed.run', *arguments],
            # Of its own for each start of the processes: in the store that torchrun shares with them, nodes that count restarts
            # differently find the addresses of dead ones.
            env={'TORCH_DISABLE_SHARE_RDZV_TCP_STORE': '1', **os.environ, FOLDER_VARIABLE: name},
            start_new_session=True,
        )
        try:
            code = process.wait()
        except KeyboardInterrupt:
            process.send_signal(signal.SIGINT)
            code = process.wait()
        if (folder / _INTERRUPTED).exists():
            return INTERRUPTED_CODE
        return code if code >= 0 else 128 - code


def is_under_torchrun() -> bool:
    """Return True if ``torchrun`` started this process."""
    return 'TORCHELASTIC_RUN_ID' in os.environ


def stop_file() -> Path | None:
    """Return the file that the launcher of this process makes when it gets a signal; None without a launcher."""
    folder = os.environ.get(FOLDER_VARIABLE)
    return Path(folder, _STOP) if folder else None


def interrupted_status() -> int:
    """Return the status with which an interrupted training leaves: 0 under ``torchrun``, whose launcher then gives the code."""
    if FOLDER_VARIABLE in os.environ:
        Path(os.environ[FOLDER_VARIABLE], _INTERRUPTED).touch()
    return 0 if is_under_torchrun() else INTERRUPTED_CODE
