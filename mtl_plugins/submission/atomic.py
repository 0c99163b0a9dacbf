"""Files that appear whole or not at all."""

import errno
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from mtl_plugins.submission.errors import SubmissionError

TEMPORARY_SUFFIX = '.tmp'


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary name beside ``path``, which takes its place when the block ends well and is removed otherwise.

    Raises:
        SubmissionError: If the operating system refuses (full disk, no permission); ``path`` is as before.
    """
    # Several processes and threads may write the same image when a test split is padded: each has its own name.
    temporary = path.with_name(f'.{path.name}.{os.getpid()}-{threading.get_ident()}{TEMPORARY_SUFFIX}')
    try:
        yield temporary
        os.replace(temporary, path)
    except BaseException as error:
        with suppress(OSError):
            temporary.unlink()
        if isinstance(error, OSError):
            raise SubmissionError(f'{_reason(error, path)} Nothing was written; an earlier file is unchanged.') from error
        raise


def make_folder(path: Path) -> None:
    """Makes ``path`` and its parents if missing.

    Raises:
        SubmissionError: If the operating system refuses.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SubmissionError(_reason(error, path)) from error


def _reason(error: OSError, path: Path) -> str:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f'The disk is full: cannot write {path}.'
    return f'Cannot write {path}: {error.strerror or error}.'
