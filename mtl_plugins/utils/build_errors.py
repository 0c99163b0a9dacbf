"""Explanations of errors in building a config entry or in a plug-in: place and reason."""

import site
import sys
import sysconfig
import traceback
import types
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from mtl_plugins.utils.data_files import shorten

PACKAGE = Path(__file__).resolve().parents[1]
TOOLS = PACKAGE.parent / 'tools'
# Functions of mmengine that build the entry `cfg`.
BUILDERS = ('build_from_cfg', 'build_scheduler_from_cfg')
_SHOWN = 160


def explain_build_error(error: BaseException) -> str | None:
    """One sentence if ``error`` was raised while mmengine built something of a config, else None.

    The entry is the innermost one that was being built; its place is looked for in the config of the Runner, if one is
    at work.
    """
    entry, config = None, None
    for frame in _frames(error.__traceback__):
        if frame.f_code.co_name in BUILDERS and isinstance(frame.f_locals.get('cfg'), Mapping):
            entry = frame.f_locals['cfg']
        for name in ('self', 'runner', 'config'):
            found = frame.f_locals.get(name)
            found = getattr(found, 'cfg', found)
            config = getattr(found, '_cfg_dict', config)
    if entry is None:
        return None
    place = next((place for place, node in _entries(config, '') if _is_same(node, entry)), None)
    reason = (str(error).strip().splitlines() or [''])[0].rstrip('.')
    what = f'`{place}`' if place else 'An entry of the config'
    return f'{what} cannot be built: {_show(entry)}. {type(error).__name__}: {reason}.'


def explain_plugin_error(error: BaseException) -> str | None:
    """One sentence if ``error`` was raised by code that is neither this project's nor installed, as a plug-in's, else None."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if _is_plugin(frame.filename)]
    if not frames:
        return None
    frame = frames[-1]
    reason = f'{type(error).__name__}: {shorten(error, 300).rstrip(".")}'
    return (
        f'{frame.filename}, line {frame.lineno}, in `{frame.name}`: {reason}. This is not code of mtl_plugins; MTL_DEBUG=1 shows '
        'the stack trace.'
    )


def _is_plugin(filename: str) -> bool:
    path = Path(filename)
    if not path.is_absolute() or not path.is_file():
        return False
    installed = [
        PACKAGE,
        TOOLS,
        *map(sysconfig.get_path, ('stdlib', 'platstdlib', 'purelib', 'platlib')),
        *site.getsitepackages(),
    ]
    return not any(path.is_relative_to(folder) for folder in (*installed, sys.prefix) if folder)


def _frames(traceback: types.TracebackType | None) -> Iterator[types.FrameType]:
    while traceback is not None:
        yield traceback.tb_frame
        traceback = traceback.tb_next


def _entries(node: Any, place: str) -> Iterator[tuple[str, Mapping]]:
    """All dicts with a type, inner ones first."""
    if isinstance(node, Mapping):
        for key, value in node.items():
            yield from _entries(value, f'{place}.{key}' if place else str(key))
        if 'type' in node:
            yield place, node
    elif isinstance(node, (list, tuple)):
        for index, value in enumerate(node):
            yield from _entries(value, f'{place}.{index}')


def _is_same(node: Mapping, built: Mapping) -> bool:
    """Whether an entry of the config is the one that was built: builders add arguments, and take some away."""
    plain = (str, int, float, bool, type(None))
    return node['type'] == built.get('type') and all(
        node[key] == value for key, value in built.items() if key in node and isinstance(value, plain)
    )


def _show(entry: Mapping) -> str:
    plain = {key: value for key, value in entry.items() if isinstance(value, (str, int, float, bool, list, tuple, type(None)))}
    text = ', '.join(f'{key}={value!r}' for key, value in plain.items() if key != '_scope_')
    return f'dict({text})' if len(text) <= _SHOWN else f'dict({text[:_SHOWN]}...)'
