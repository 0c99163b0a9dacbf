"""Configs are written into work dirs, logs, checkpoints and archives: nothing secret belongs into one."""

import os
import re
from collections.abc import Iterator, Mapping
from typing import Any

from mmengine.config import Config

from mtl_plugins.errors import ConfigError

# Names of entries that hold what only their owner should know.
_SECRET = re.compile(r'(^|_)(api_?key|passw(or)?d|secret|(access|auth|api)_?token)$', re.IGNORECASE)
VARIABLE = 'WANDB_API_KEY'


def refuse_secrets(config: Config) -> None:
    """Refuse a config with an entry that is named as a key or password, or whose text holds the key of Weights & Biases.

    Raises:
        ConfigError: If there is one; the sentence names the entry and not its value.
    """
    known = os.environ.get(VARIABLE)
    for place, value in _texts(config._cfg_dict, ''):
        if (value and _SECRET.search(place.rpartition('.')[2])) or (known and known in value):
            raise ConfigError(
                f'`{place}` should not be in a config, which is written into the work dir, the log and the archive: it holds a '
                f'key. Call `wandb login` once, or set the environment variable {VARIABLE}.'
            )


def _texts(node: Any, place: str) -> Iterator[tuple[str, str]]:
    """All strings of a config with their places."""
    if isinstance(node, Mapping):
        for key, value in node.items():
            yield from _texts(value, f'{place}.{key}' if place else str(key))
    elif isinstance(node, (list, tuple)):
        for index, value in enumerate(node):
            yield from _texts(value, f'{place}.{index}')
    elif isinstance(node, str):
        yield place, node
