"""Configs as plain data: what a record holds, the hash of what matters, and the keys in which configs differ."""

import ast
import contextlib
import hashlib
import json
import math
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from mtl_plugins.errors import ArgumentError, ConfigError
from mtl_plugins.utils.data_files import read_bytes

# A parser needs a hundred times the memory of the text.
MOST_TEXT = 2**20
# What says where and under which name a run took place, how it was started and shown, and not what was computed.
IRRELEVANT = frozenset(
    'work_dir name team team_prefix resume reschedule launcher submission visualizer log_level log_processor env_cfg'.split()
)
# The order of channels too: it was always that of the tasks, which older records do not state.
IRRELEVANT_ANYWHERE = frozenset(
    'data_root num_workers worker_type persistent_workers prefetch_factor pin_memory task_order pictures'.split()
)
_SECRET = re.compile(r'(^|_)(api_?key|passw(or)?d|secret|(access|auth|api)_?token)$', re.IGNORECASE)
KEY_VARIABLE = 'WANDB_API_KEY'
# In the root of the project, ignored by git.
KEY_FILE = Path(__file__).resolve().parents[2] / 'wandb.key'
_SHORTEST_KEY = 32


def as_data(node: Any) -> Any:
    """Return dicts, lists, tuples and plain values as JSON knows them: anything else becomes text, what is not finite null."""
    if isinstance(node, Mapping):
        return {str(key): as_data(value) for key, value in node.items()}
    if isinstance(node, (list, tuple)):
        return [as_data(value) for value in node]
    if isinstance(node, float):
        return float(node) if math.isfinite(node) else None
    return node if isinstance(node, (str, int, type(None))) else str(node)


def hash_config(config: Mapping[str, Any]) -> str:
    """Return twelve hexadecimal digits, the same for configs that differ in seed, names, places, workers and pictures only."""
    kept = {key: value for key, value in config.items() if key not in IRRELEVANT}
    if config.get('resume') not in (None, False, 'auto'):
        # Then it names the checkpoint to go on from, and not other weights to start from.
        kept.pop('load_from', None)
    kept['randomness'] = {key: value for key, value in (config.get('randomness') or {}).items() if key != 'seed'}
    kept = {key: value for key, value in _without_places(kept).items() if value is not None}
    return hashlib.sha256(json.dumps(kept, sort_keys=True).encode()).hexdigest()[:12]


def _without_places(node: Any) -> Any:
    if isinstance(node, dict):
        return {key: _without_places(value) for key, value in node.items() if key not in IRRELEVANT_ANYWHERE}
    return [_without_places(value) for value in node] if isinstance(node, list) else node


def flatten(node: Any, prefix: str = '') -> Iterator[tuple[str, Any]]:
    """Yield dotted keys and values; a list counts as one value unless it holds dicts."""
    if isinstance(node, dict) and node:
        for key, value in node.items():
            yield from flatten(value, f'{prefix}.{key}' if prefix else key)
    elif isinstance(node, list) and any(isinstance(item, dict) for item in node):
        for index, value in enumerate(node):
            yield from flatten(value, f'{prefix}.{index}' if prefix else str(index))
    else:
        yield prefix, node


def wandb_key() -> str | None:
    """Return the key of Weights & Biases: of the variable, else the only word of the file ``wandb.key``; None without both."""
    words = []
    with contextlib.suppress(OSError, UnicodeDecodeError):
        words = read_bytes(KEY_FILE).decode().split()
    found = words[0] if len(words) == 1 and len(words[0]) >= _SHORTEST_KEY else None
    return os.environ.get(KEY_VARIABLE) or found


def refuse_secrets(config: Mapping[str, Any]) -> None:
    """Refuse a config with an entry that is named as a key or password, or whose text holds the key of Weights & Biases."""
    known = wandb_key()
    for place, value in flatten(as_data(config)):
        is_named = value and isinstance(value, str) and _SECRET.search(place.rpartition('.')[2])
        if is_named or (known and known in str(value)):
            raise ConfigError(
                f'`{place}` should not be in a config, which is written into the work dir, the log and the archive: it holds a '
                f'key. Call `wandb login` once, put it into {KEY_FILE.name}, or set the environment variable {KEY_VARIABLE}.'
            )


def read_config_text(text: str, name: str) -> dict[str, Any]:
    """Return a resolved config, called ``name`` in errors, as data; an ArgumentError if it is more than plain values."""
    if len(text) > MOST_TEXT:
        raise ArgumentError(f'`{name}` should be a config of at most {MOST_TEXT} letters. Found {len(text)}.')
    config = {}
    for statement in ast.parse(text).body:
        if not isinstance(statement, ast.Assign) or not isinstance(statement.targets[0], ast.Name):
            raise ArgumentError(f'`{name}` should be a resolved config. Found line {statement.lineno}.')
        config[statement.targets[0].id] = as_data(_value_of(statement.value))
    return config


def _value_of(node: ast.expr) -> Any:
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == 'dict':
        # Keys that are no names, as the ids of a mapping, stand in a dict of their own.
        if not all(isinstance(item, ast.Dict) for item in node.args):
            raise ArgumentError(f'`dict` should get plain values. Found line {node.lineno}.')
        others = {key: value for item in node.args for key, value in _value_of(item).items()}
        return {**others, **{item.arg: _value_of(item.value) for item in node.keywords if item.arg}}
    if isinstance(node, ast.Dict) and None not in node.keys:
        return {ast.literal_eval(key): _value_of(value) for key, value in zip(node.keys, node.values, strict=True)}
    if isinstance(node, (ast.List, ast.Tuple)):
        return [_value_of(item) for item in node.elts]
    return ast.literal_eval(node)
