"""How long a training took that was killed and continued."""

import json
import time
from pathlib import Path

from mtl_plugins.utils.checkpoint_io import find_latest_checkpoint
from mtl_plugins.utils.files import replacing

FILE_NAME = 'attempts.json'


def begin_attempt(folder: Path) -> float:
    """Note that a training begins or goes on in ``folder``; the time when it first began, in seconds since the epoch.

    An earlier attempt that did not end counts up to the checkpoint that is continued from: what came after is done again.
    """
    attempts = _read(folder)
    checkpoint = find_latest_checkpoint(folder)
    saved = Path(checkpoint).stat().st_mtime if checkpoint and Path(checkpoint).is_file() else 0.0
    attempts = [[start, end or max(saved, start)] for start, end in attempts]
    _write(folder, [*attempts, [time.time(), None]])
    return (attempts or _read(folder))[0][0]


def end_attempt(folder: Path) -> float:
    """Note that the training has ended; the seconds of all its attempts."""
    *earlier, (start, _) = _read(folder)
    attempts = [*earlier, [start, time.time()]]
    _write(folder, attempts)
    return sum(end - start for start, end in attempts)


def _read(folder: Path) -> list[list]:
    path = folder / FILE_NAME
    return json.loads(path.read_bytes()) if path.is_file() else []


def _write(folder: Path, attempts: list[list]) -> None:
    with replacing(folder / FILE_NAME) as temporary:
        temporary.write_text(json.dumps(attempts), encoding='utf-8')
