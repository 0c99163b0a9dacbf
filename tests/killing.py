"""A process that is killed, or finds the disk full, at a file-changing operation of its choice."""

import contextlib
import errno
import itertools
import os
import resource
import signal
import stat
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import torch

from mtl_plugins.errors import UserError
from mtl_plugins.utils import files
from mtl_plugins.utils.cli import explain

# Those that take room on a disk; the others change names or remove.
_TAKES_ROOM = ('open', 'os.mkdir', 'os.symlink', 'os.link')
_CHANGES = (*_TAKES_ROOM, 'os.rename', 'os.remove', 'os.rmdir', 'os.truncate', 'os.utime', 'os.chmod')
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


class Outcome(NamedTuple):
    """How a process ended, the number of file-changing operations that it began, and its sentence or trace."""

    # 1 with an error in a sentence, 2 with a stack trace, less than 0 with a signal.
    code: int
    operations: int
    text: str


def run_forked(function: Callable[[], Any], folder: Path, *, kill_at: int | None = None, full_at: int | None = None) -> Outcome:
    """Call a function in a fork of this process, which has its imports already, and disturb it at operations below ``folder``.

    Before the operation ``kill_at``, from 1, it is killed by SIGKILL; from ``full_at`` on the disk is full.
    """
    # OpenCV's threads can be ended here only.
    cv2.setNumThreads(0)
    reading, writing = os.pipe()
    sys.stdout.flush()
    child = os.fork()
    if not child:
        os.close(reading)
        _be_child(function, str(folder.resolve()), kill_at, full_at, writing)
    os.close(writing)
    with os.fdopen(reading, 'rb') as pipe:
        said = pipe.read().decode(errors='replace')
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    marks, _, text = said.partition('\n')
    return Outcome(code, marks.count('.'), text)


def let_threads_end() -> None:
    """Wait until no thread of this process ends any more: a fork made meanwhile may find a lock of OpenCV held for ever."""
    before = None
    while (tasks := os.listdir('/proc/self/task')) != before:
        before = tasks
        time.sleep(0.2)


def _be_child(function: Callable[[], Any], folder: str, kill_at: int | None, full_at: int | None, writing: int) -> None:
    code, text = 0, ''
    # One that waits for ever fails its test.
    signal.alarm(120)
    try:
        # The threads of the other process are none of a fork, which would wait for them.
        torch.set_num_threads(1)
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, 1)
        os.dup2(null, 2)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        # Another process, that is, which has not looked for leftovers yet.
        files._cleared.clear()
        disturb(folder, lambda number: os.write(writing, b'.'), kill_at, full_at)
        function()
    except BaseException as error:
        sentence = str(error) if isinstance(error, UserError) else explain(error)
        code, text = (1, sentence) if sentence else (2, ''.join(traceback.format_exception(error)))
    os.write(writing, f'\n{text}'.encode())
    os._exit(code)


def disturb(folder: str, note: Callable[[int], Any], kill_at: int | None = None, full_at: int | None = None) -> None:
    """Disturb this process as :func:`run_forked` does; files that it is writing are cut in half before it is killed.

    ``note`` gets the number of each file-changing operation of this process, in any thread, before it takes place.
    """
    # Counts for several threads.
    counter, process = itertools.count(1), os.getpid()

    def watch(event: str, arguments: tuple) -> None:
        if event not in _CHANGES or os.getpid() != process or not _is_change(event, arguments, folder):
            return
        number = next(counter)
        note(number)
        if number == kill_at:
            for path in Path(folder).rglob('*.tmp'):
                # Another thread may rename it meanwhile.
                with contextlib.suppress(FileNotFoundError):
                    status = path.lstat()
                    # A link is not what is being written.
                    if stat.S_ISREG(status.st_mode) and status.st_nlink == 1:
                        os.truncate(path, status.st_size // 2)
            os.kill(os.getpid(), signal.SIGKILL)
        if full_at is not None and number >= full_at and event in _TAKES_ROOM:
            raise OSError(errno.ENOSPC, 'No space left on device', str(arguments[0]))

    sys.addaudithook(watch)


def _is_change(event: str, arguments: tuple, folder: str) -> bool:
    if event == 'open' and not (isinstance(arguments[2], int) and arguments[2] & _WRITES):
        return False
    path = arguments[0]
    if not isinstance(path, (str, bytes, os.PathLike)):
        return False
    path = os.fsdecode(path)
    # Of a file in an opened folder, as when a tree is removed, the name alone is told.
    return path.startswith(folder + os.sep) if os.path.isabs(path) else any(isinstance(each, int) for each in arguments[1:])


def sampled(number: int, most: int) -> Iterator[int]:
    """Numbers from 1 to ``number``, the first and the last among them, evenly spread."""
    yield from sorted({int(each) for each in np.linspace(1, number, min(number, most)).round()})


def contents(folder: Path) -> dict[str, bytes | None]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() if path.is_file() else None for path in sorted(folder.rglob('*'))
    }
