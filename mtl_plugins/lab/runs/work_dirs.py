"""Runs by their records, and finding them below folders."""

import functools
import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mtl_plugins.errors import ConfigError, DataNotFoundError, UserError
from mtl_plugins.evaluation.scores import find_score
from mtl_plugins.records.record import LOCK_NAME, RECORD_NAME, read_record_file
from mtl_plugins.utils.data_files import is_number, take_part
from mtl_plugins.utils.files import is_locked

if TYPE_CHECKING:
    from mmengine.config import Config

MISSING = object()
# The logs of one start of the Runner: nothing of ours is in there.
_LOG_FOLDER = re.compile(r'\d{8}_\d{6}')


@dataclass(frozen=True)
class RunRecord:
    """A run as its record tells it, at the time of reading.

    Attributes:
        path: The work dir.
        data: The fields of the record without ``config``; those that a run does not know are absent.
        config_sections: JSON text of each top-level entry of the config. Texts are cheaper to compare than configs, and the
            sections of many runs are the same.
        state: As in the record, or ``killed``; ``unknown`` for work dirs without a record, ``unreadable`` for a broken one.
    """

    path: Path
    data: Mapping[str, Any]
    config_sections: Mapping[str, str] = field(repr=False)
    state: str

    @property
    def config(self) -> dict[str, Any]:
        """The resolved config as data; not to be changed, since records share its parts."""
        return {name: _parse(text) for name, text in self.config_sections.items()}

    @property
    def scores(self) -> Mapping[str, float]:
        """All metrics of the best validation."""
        return self.data.get('scores') or {}

    def checkpoint(self, which: str = 'best') -> Path | None:
        """Return the ``'best'`` or the ``'last'`` checkpoint, if it is there."""
        name = (self.data.get('checkpoints') or {}).get(which)
        return self.path / name if name and (self.path / name).is_file() else None

    def get(self, key: str, default: Any = None) -> Any:
        """Return the value at a dotted key of the record, else of the config, such as ``'optim_wrapper.optimizer.lr'``.

        ``'config.name'`` is the config's where both have one; ``'path'`` and ``'state'`` are those of this object. A score may
        be called as tables call it, or by its last word: ``'mIoU'``, ``'multitask'``.
        """
        if key in ('path', 'state'):
            return str(getattr(self, key))
        found = look_up(self.data, key)
        if found is MISSING:
            section, _, rest = key.removeprefix('config.').partition('.')
            text = self.config_sections.get(section)
            found = MISSING if text is None else look_up(_parse(text), rest) if rest else _parse(text)
        if found is MISSING:
            found = self.scores.get(find_score(key, self.scores), MISSING)
        return default if found is MISSING else found

    def number(self, key: str) -> float | None:
        """Return the value at a key if it is a number; None otherwise."""
        found = self.get(key)
        return found if is_number(found) else None


@functools.lru_cache(maxsize=4096)
def _parse(text: str) -> Any:
    return json.loads(text)


def look_up(node: Any, key: str) -> Any:
    """Return the value at a dotted key of nested dicts and lists, whose own keys may hold dots; else ``MISSING``."""
    if isinstance(node, Mapping):
        if key in node:
            return node[key]
        for place, letter in enumerate(key):
            if letter == '.' and key[:place] in node:
                found = look_up(node[key[:place]], key[place + 1 :])
                if found is not MISSING:
                    return found
    elif isinstance(node, list):
        head, _, rest = key.partition('.')
        if head.isdecimal() and int(head) < len(node):
            return look_up(node[int(head)], rest) if rest else node[int(head)]
    return MISSING


def find_runs(folders: Sequence[str | Path]) -> list[RunRecord]:
    """Return all runs at or below ``folders``, however far down, each once, in the order of their start.

    A work dir has a ``run.json``. One that cannot be read is listed with the state ``unreadable`` and the sentence as its
    ``error``. Symbolic links below the folders are not followed; a folder that does not exist is a `DataNotFoundError`.
    """
    runs: dict[str, Path] = {}
    for folder in map(Path, reversed(folders)):
        if not folder.is_dir():
            raise DataNotFoundError(f"The folder '{folder}' does not exist. Give a work dir, or a folder that holds some.")
        for current, below, files in os.walk(folder):
            # A link to a folder is listed with the folders.
            if RECORD_NAME in files or RECORD_NAME in below:
                runs[os.path.realpath(current)] = Path(current)
            below[:] = [name for name in below if name != RECORD_NAME and not _LOG_FOLDER.fullmatch(name)]
    found = [read_run(work_dir) for work_dir in runs.values()]
    return sorted(found, key=lambda run: (str(run.data.get('started') or ''), str(run.path)))


def require_runs(folders: Sequence[Path]) -> list[RunRecord]:
    """Return the runs of the folders as given, each once, within a folder by start; none is a `DataNotFoundError`."""
    runs = list({run.path.resolve(): run for folder in folders for run in find_runs([folder])}.values())
    if not runs:
        listed = ', '.join(map(str, folders))
        raise DataNotFoundError(f'There is no work dir with run.json at or below {listed}. Give the work dir of a training.')
    return runs


def read_run(work_dir: str | Path) -> RunRecord:
    """Return the run of a work dir; of the state ``unreadable`` if its record cannot be read."""
    work_dir = Path(work_dir)
    try:
        record = read_record_file(work_dir)
    except UserError as error:
        return RunRecord(work_dir, dict(error=str(error)), {}, 'unreadable')
    config = record.pop('config', None) or {}
    state = str(record.get('state', 'unknown'))
    if state == 'running' and not is_locked(work_dir / LOCK_NAME):
        state = 'killed'
    return RunRecord(work_dir, record, {name: json.dumps(section) for name, section in config.items()}, state)


def recorded_config(run: RunRecord, *loaders: str) -> 'Config':
    """Return the parts of a run's config that may be built, as its record holds them: the model and the named data loaders."""
    # All of it imports torch.
    from mmengine.config import Config
    from mmengine.registry import init_default_scope

    from mtl_plugins.config.stored_config import model_of, take_loader
    from mtl_plugins.registry import MODELS, SCOPE, TASK_UTILS

    place = f'The config of the work dir {run.path}'
    if not run.config and run.data.get('error'):
        raise ConfigError(f'{place} should hold a model. Found {run.data["error"]}.')
    model = model_of(run.config, place)
    parts = dict(default_scope=SCOPE, model=take_part(model, place, MODELS, TASK_UTILS))
    for name in loaders:
        parts[name] = take_loader(run.config, name, place)
    init_default_scope(SCOPE)
    # Named for messages; with a text the file, which need not be here, is not read.
    return Config(parts, cfg_text=' ', filename=str(run.data.get('config_file') or run.path))
