"""Files that appear whole or not at all."""

import codecs
import errno
import fcntl
import os
import platform
import re
import shutil
import threading
import time
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from mtl_plugins.errors import DataError, DataNotFoundError, UserError

TEMPORARY_SUFFIX = '.tmp'
_HOST = f'{zlib.crc32(platform.node().encode()):08x}'
# Those without a computer are of this one.
_TEMPORARY = re.compile(r'\..*\.(?:(?P<host>[0-9a-f]{8})-)?(?P<pid>\d+)-\d+\.tmp(?:\..*)?')
_ABANDONED_SECONDS = 24 * 3600
_cleared: set[str] = set()
_clearing = threading.Lock()
_locks: dict[Path, int] = {}


def temporary_beside(path: Path, suffix: str = '') -> Path:
    """A hidden name in the folder of ``path`` that no other process or thread uses.

    What processes that were killed left there under such names is removed, once by each process. Files of another computer are
    removed a day after they were last written. A writer may tell the format by the ``suffix``.
    """
    remove_leftovers(path.parent)
    # The start of the name is for people; a whole one could become too long for the file system.
    return path.with_name(f'.{path.name[:40]}.{_HOST}-{os.getpid()}-{threading.get_native_id()}{TEMPORARY_SUFFIX}{suffix}')


def remove_leftovers(folder: Path) -> None:
    """Remove what :func:`temporary_beside` named for processes that have ended since; nothing on the second call."""
    # Under the lock: no thread of this process makes a file in a folder that another one is still clearing.
    with _clearing:
        place = os.path.realpath(folder)
        if place in _cleared:
            return
        _cleared.add(place)
        try:
            names = [match for match in map(_TEMPORARY.fullmatch, os.listdir(place)) if match]
        except OSError:
            return
        for match in names:
            leftover = Path(place, match[0])
            with suppress(OSError):
                if _is_abandoned(match, leftover):
                    if leftover.is_dir() and not leftover.is_symlink():
                        shutil.rmtree(leftover, ignore_errors=True)
                    else:
                        leftover.unlink()


def _is_abandoned(match: re.Match, path: Path) -> bool:
    if (match['host'] or _HOST) != _HOST:
        return time.time() - path.lstat().st_mtime > _ABANDONED_SECONDS
    pid = int(match['pid'])
    # This process has not written here yet, so that the number is that of an earlier one, as happens in containers.
    if pid == os.getpid():
        return True
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return True
    except OSError:
        pass
    return False


@contextmanager
def replacing(path: str | os.PathLike, error_type: type[UserError] = UserError) -> Iterator[Path]:
    """A temporary name beside ``path``, which takes its place when the block ends well and is removed otherwise.

    Raises:
        UserError: Of the given type, if the operating system refuses (full disk, no permission); ``path`` is as before.
    """
    path = Path(path)
    # Several processes and threads may write the same image when a test split is padded: each has its own name.
    temporary = temporary_beside(path)
    try:
        yield temporary
        os.replace(temporary, path)
    except BaseException as error:
        with suppress(OSError):
            temporary.unlink()
        if isinstance(error, OSError):
            raise error_type(f'{describe_os_error(error, path)} Nothing was written; an earlier file is unchanged.') from error
        raise


def read_lines(path: str | os.PathLike, what: str) -> list[str]:
    """Return the lines of a text file, stripped, without empty ones: UTF-8 or UTF-16 with a byte order mark, or UTF-8.

    An error calls the file ``what``, such as "list".

    Raises:
        DataNotFoundError: If it cannot be read, or holds no line.
    """
    try:
        data = Path(path).read_bytes()
        text = data.decode('utf-16' if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) else 'utf-8-sig')
    except OSError as error:
        raise DataNotFoundError(f"The {what} '{path}' cannot be read: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise DataNotFoundError(f"The {what} '{path}' should be text in UTF-8. It cannot be read: {error}.") from error
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if not lines:
        raise DataNotFoundError(f"The {what} '{path}' is empty: it should have a name in each line.")
    return lines


@contextmanager
def scratch_folder(path: Path) -> Iterator[Path]:
    """A new folder beside ``path``, which is removed in the end unless it was given another name."""
    folder = temporary_beside(path)
    try:
        folder.mkdir()
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """A hidden folder that becomes ``path`` when the block ends well and is removed otherwise.

    Raises:
        DataError: If ``path`` is there and is not an empty folder, or the operating system refuses (full disk, no permission).
    """
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise DataError(f"'{path}' is not an empty folder; choose a new one.")
    make_folder(path.parent, DataError)
    try:
        with scratch_folder(path) as folder:
            yield folder
            replace_folder(folder, path)
    except OSError as error:
        raise DataError(f'{describe_os_error(error, path)} Nothing was written.') from error


def replace_folder(source: Path, target: Path) -> None:
    """Give a complete folder its final name. One that has the name already goes; it stays if the operating system refuses."""
    if not target.exists():
        source.rename(target)
        return
    old = temporary_beside(target, '.old')
    target.rename(old)
    try:
        source.rename(target)
    except OSError:
        old.rename(target)
        raise
    shutil.rmtree(old, ignore_errors=True)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold a lock on a folder, or on a file, which is made if missing and stays, while the block runs.

    Another process or thread that has it is waited for. The system gives it back when a process ends, however it does. On a file
    system without such locks nothing is locked.
    """
    with ExitStack() as stack:
        with suppress(OSError):
            descriptor = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR | os.O_CREAT, 0o666)
            stack.callback(os.close, descriptor)
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield


def make_folder(path: Path, error_type: type[UserError] = UserError) -> None:
    """Make ``path`` and its parents if missing; raise an error of the given type if the operating system refuses."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise error_type(describe_os_error(error, path)) from error


def save_text(path: Path, text: str) -> Path:
    """Write a text file in one step, see :func:`replacing`, and make its folder if missing; return its path."""
    make_folder(path.parent)
    with replacing(path) as temporary:
        temporary.write_text(text, encoding='utf-8')
    return path


def hold_lock(path: Path, error_type: type[UserError] = UserError) -> bool:
    """Lock a file until this process ends, however it ends; the file is made if missing and stays.

    The lock is that of the process, not of its children: none that outlives it holds it. Taking it again is nothing.

    Returns:
        False if another process holds it. True on a file system without such locks.
    """
    path = path.resolve()
    if path in _locks:
        return True
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise error_type(describe_os_error(error, path)) from error
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EACCES, errno.EAGAIN):
            os.close(descriptor)
            return False
    # Closing any descriptor of the file would give the lock back.
    _locks[path] = descriptor
    return True


def is_locked(path: Path) -> bool:
    """Return True if a living process, this one included, holds the lock of :func:`hold_lock`; the lock is not touched.

    False if there is no such file; True on a file system without such locks.
    """
    path = path.resolve()
    # Closing a descriptor of a file that this process has locked would give the lock back.
    if path in _locks:
        return True
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except OSError:
        return False
    try:
        os.lockf(descriptor, os.F_TEST, 0)
        return False
    except OSError:
        return True
    finally:
        os.close(descriptor)


def shorten_paths(text: str) -> str:
    """The text with paths below the current folder written relative to it, as a person would type them."""
    return text.replace(f'{Path.cwd()}{os.sep}', '')


def natural_order(stem: str) -> tuple:
    """Sort key: 2 before 10."""
    parts = re.split(r'(\d+)', stem)
    return tuple((1, int(part), part) if part.isdecimal() else (0, 0, part) for part in parts if part)


def describe_os_error(error: OSError, path: Path) -> str:
    """One sentence on why ``path`` could not be written."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f'The disk is full: cannot write {path}.'
    return f'Cannot write {path}: {error.strerror or error}.'
