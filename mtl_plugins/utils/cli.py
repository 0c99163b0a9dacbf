"""The common parts of command-line tools: errors as one line, progress, and the end of the process."""

import errno
import io
import os
import pickle
import re
import select
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, TextIO, TypeVar

from mtl_plugins.errors import UserError
from mtl_plugins.utils.data_files import printable
from mtl_plugins.utils.memory import keep_freed_memory

if TYPE_CHECKING:
    from rich.progress import Progress

DEBUG_VARIABLE = 'MTL_DEBUG'
Item = TypeVar('Item')

# Packages that only some tools need, and the extra that brings them.
_EXTRAS = dict(
    optuna='sweep',
    sklearn='coco',
    scipy='sweep',
    torchjd='balancing',
    jinja2='report',
    plotly='report',
    **dict.fromkeys(('onnx', 'onnxscript', 'onnxruntime', 'openvino', 'nncf'), 'deploy'),
    starlette='serve',
    uvicorn='serve',
    shtab='completion',
    segmentation_models_pytorch='benchmark',
)
_UNKNOWN_TYPE = re.compile(r'([\w.]+) is not in the (?:\w+::)?([\w ]+) registry')
# Functions of mmengine that build the entry `cfg`.
BUILDERS = ('build_from_cfg', 'build_scheduler_from_cfg')
_SHOWN = 160
_PLAIN = (str, int, float, bool, type(None))


def progress_bar() -> 'Progress':
    """Return a bar of steps, with the time so far, on standard error; it is silent where that is no terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    console = Console(stderr=True)
    columns = (TextColumn('{task.description}'), BarColumn(24), MofNCompleteColumn(), TimeElapsedColumn())
    return Progress(*columns, console=console, transient=True, disable=not console.is_terminal)


def track(items: Iterable[Item], total: int | None, description: str) -> Iterator[Item]:
    """Give the items, while :func:`progress_bar` shows how many of ``total`` are done; None if nobody knows it."""
    with progress_bar() as bar:
        yield from bar.track(items, total=total, description=description)


def run_tool(main: Callable[[], int | None], *, keep_memory: bool = True) -> None:
    """Run ``main`` and leave the process: 0 or its return value, 1 with one line on stderr when the user must act.

    Set ``MTL_DEBUG=1`` to see the stack trace of such an error.

    Args:
        main: The tool. It parses its arguments, then imports torch.
        keep_memory: Call :func:`keep_freed_memory`.
    """
    # GNU OpenMP's threads spin for milliseconds while they wait, and starve the loader's threads on the same cores, and any
    # neighbour's: a step then takes ten times as long. Not to spin at all costs 7 % of a step on idle cores. Read when torch is
    # imported.
    os.environ.setdefault('GOMP_SPINCOUNT', '2000')
    if keep_memory:
        keep_freed_memory()
    # A terminal that knows ASCII alone still gets names of classes and files.
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors='backslashreplace')
    try:
        status = main() or 0
        sys.stdout.flush()
        sys.exit(status)
    except KeyboardInterrupt as error:
        sys.exit(str(error) or 'Interrupted.')
    except Exception as error:
        if isinstance(error, BrokenPipeError) and _is_unread(sys.stdout):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # Python writes what is left at its end.
            sys.exit(0)
        sentence = explain(error)
        if sentence is None or os.environ.get(DEBUG_VARIABLE) == '1':
            raise
        # It may say what a file holds.
        print(f'error: {printable(sentence)}', file=sys.stderr)
        sys.exit(1)


def _is_unread(pipe: TextIO) -> bool:
    """True if whoever read the pipe has left, as ``head`` does."""
    poll = select.poll()
    poll.register(pipe, 0)
    return any(event & select.POLLERR for _, event in poll.poll(0))


def explain(error: BaseException) -> str | None:
    """The sentence for an error that the user can mend, ``None`` for one that deserves a stack trace."""
    seen: BaseException | None = error
    while seen is not None:
        text = str(seen).strip()
        if 'Traceback (most recent call last)' in text:
            # A worker process puts the sentence behind its own traceback.
            text = text.splitlines()[-1].split('Error: ', 1)[-1]
        if isinstance(seen, UserError):
            return text
        if isinstance(seen, KeyError) and (unknown := _UNKNOWN_TYPE.search(text)):
            from mtl_plugins.utils.config_classes import suggest_class

            nearest = suggest_class(unknown[1], unknown[2]) or ' Check the spelling.'
            return f'Unknown `type` in the config: there is no {unknown[2]} named {unknown[1]}.{nearest}'
        if isinstance(seen, ModuleNotFoundError) and (extra := _EXTRAS.get((seen.name or '').partition('.')[0])):
            return f"This needs the package {seen.name.partition('.')[0]}. Install it: pip install -e '.[{extra}]'."
        if isinstance(seen, pickle.UnpicklingError):
            return 'A downloaded checkpoint holds objects other than weights and was refused, since loading them could run code.'
        if isinstance(seen, RuntimeError) and text.startswith('Symlink loop from'):
            return f'A link leads back to itself: {text.removeprefix("Symlink loop from").strip()}.'
        if isinstance(seen, OSError) and seen.errno in (errno.ENOSPC, errno.EDQUOT):
            return f'The disk is full ({seen.filename or "while writing"}). Free space and run again.'
        seen = seen.__cause__ or seen.__context__
    return explain_build_error(error)


def explain_build_error(error: BaseException) -> str | None:
    """Return one sentence if ``error`` was raised while mmengine built something of a config, else None.

    The entry is the innermost one that was being built; its place is looked for in the config of the Runner. Both are in the
    frames alone: errors of constructors of any library, as of an optimizer, name neither.
    """
    from mtl_plugins.utils.config_classes import typed_dicts  # imports mmseg

    entry, config = None, None
    for frame, _ in traceback.walk_tb(error.__traceback__):
        if frame.f_code.co_name in BUILDERS and isinstance(frame.f_locals.get('cfg'), Mapping):
            entry = frame.f_locals['cfg']
        for name in ('self', 'runner', 'config'):
            found = frame.f_locals.get(name)
            found = getattr(found, 'cfg', found)
            config = getattr(found, '_cfg_dict', config)
    if entry is None:
        return None
    place = next((place for place, node in typed_dicts(config) if _is_same(node, entry)), None)
    reason = (str(error).strip().splitlines() or [''])[0].rstrip('.')
    what = f'`{place}`' if place else 'An entry of the config'
    plain = {key: value for key, value in entry.items() if isinstance(value, (*_PLAIN, list, tuple)) and key != '_scope_'}
    shown = ', '.join(f'{key}={value!r}' for key, value in plain.items())
    shown = shown if len(shown) <= _SHOWN else f'{shown[:_SHOWN]}...'
    return f'{what} cannot be built: dict({shown}). {type(error).__name__}: {reason}.'


def _is_same(node: Mapping, built: Mapping) -> bool:
    """Return True if an entry of the config is the one that was built: builders add arguments, and take some away."""
    return node['type'] == built.get('type') and all(
        node[key] == value for key, value in built.items() if key in node and isinstance(value, _PLAIN)
    )
