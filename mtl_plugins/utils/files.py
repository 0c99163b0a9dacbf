"""Files that appear whole or not at all."""

import errno
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from mtl_plugins.errors import UserError

TEMPORARY_SUFFIX = '.tmp'


@contextmanager
def replacing(path: str | os.PathLike, error_type: type[UserError] = UserError) -> Iterator[Path]:
    """A temporary name beside ``path``, which takes its place when the block ends well and is removed otherwise.

    Raises:
        UserError: Of the given type, if the operating system refuses (full disk, no permission); ``path`` is as before.
    """
    path = Path(path)
    # Several processes and threads may write the same image when a test split is padded: each has its own name.
    temporary = path.with_name(f'.{path.name}.{os.getpid()}-{threading.get_ident()}{TEMPORARY_SUFFIX}')
    try:
        yield temporary
        os.replace(temporary, path)
    except BaseException as error:
        with suppress(OSError):
            temporary.unlink()
        if isinstance(error, OSError):
            raise error_type(f'{describe_os_error(error, path)} Nothing was written; an earlier file is unchanged.') from error
        raise


def make_folder(path: Path, error_type: type[UserError] = UserError) -> None:
    """Makes ``path`` and its parents if missing.

    Raises:
        UserError: Of the given type, if the operating system refuses.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise error_type(describe_os_error(error, path)) from error


def describe_os_error(error: OSError, path: Path) -> str:
    """One sentence on why ``path`` could not be written."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f'The disk is full: cannot write {path}.'
    return f'Cannot write {path}: {error.strerror or error}.'
