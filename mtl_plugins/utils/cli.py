"""What every command-line tool shares: errors as one line, and arguments parsed before the heavy imports."""

import errno
import os
import sys
from collections.abc import Callable

DEBUG_VARIABLE = 'MTL_DEBUG'


def run_tool(main: Callable[[], int | None]) -> None:
    """Run ``main`` and leave the process: 0 or its return value, 1 with one line on stderr when the user must act.

    Set ``MTL_DEBUG=1`` to see the stack trace of such an error.
    """
    try:
        sys.exit(main() or 0)
    except KeyboardInterrupt:
        sys.exit('Interrupted.')
    except Exception as error:
        sentence = explain(error)
        if sentence is None or os.environ.get(DEBUG_VARIABLE) == '1':
            raise
        print(f'error: {sentence}', file=sys.stderr)
        sys.exit(1)


def explain(error: BaseException) -> str | None:
    """The sentence for an error that the user can mend, ``None`` for one that deserves a stack trace."""
    from mtl_plugins.errors import UserError

    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, UserError):
            # A worker process puts the sentence behind its own traceback.
            text = str(seen).strip()
            return text.splitlines()[-1].split('Error: ', 1)[-1] if 'Traceback (most recent call last)' in text else text
        if isinstance(seen, OSError) and seen.errno in (errno.ENOSPC, errno.EDQUOT):
            return f'The disk is full ({seen.filename or "while writing"}). Free space and run again.'
        seen = seen.__cause__ or seen.__context__
    return None
