"""Explanations of errors in building a config entry or in a plug-in: place and reason."""

import sys
import sysconfig
import traceback
from collections.abc import Mapping
from pathlib import Path

from mtl_plugins.utils.data_files import shorten

PACKAGE = Path(__file__).resolve().parents[1]
TOOLS = PACKAGE.parent / 'tools'
# Functions of mmengine that build the entry `cfg`.
BUILDERS = ('build_from_cfg', 'build_scheduler_from_cfg')
_SHOWN = 160
_PLAIN = (str, int, float, bool, type(None))


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


def explain_plugin_error(error: BaseException) -> str | None:
    """Return one sentence if ``error`` was raised by code that is neither ours nor installed, as a plug-in's, else None."""
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
    installed = (PACKAGE, TOOLS, sys.prefix, *map(sysconfig.get_path, ('stdlib', 'platstdlib', 'purelib', 'platlib')))
    return path.is_absolute() and path.is_file() and not any(map(path.is_relative_to, installed))


def _is_same(node: Mapping, built: Mapping) -> bool:
    """Return True if an entry of the config is the one that was built: builders add arguments, and take some away."""
    return node['type'] == built.get('type') and all(
        node[key] == value for key, value in built.items() if key in node and isinstance(value, _PLAIN)
    )
