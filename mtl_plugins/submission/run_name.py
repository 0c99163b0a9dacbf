"""The name of a run, which the course's score sheets use to find it again."""

import re
import secrets
from datetime import datetime
from pathlib import Path

_ALLOWED = re.compile(r'[A-Za-z0-9._-]+')
_NOT_ALLOWED = re.compile(r'[^A-Za-z0-9._-]+')


def name_of_file(path: str | Path) -> str:
    """The stem of a file as the name of a run: what a run name may not hold becomes a hyphen."""
    return _NOT_ALLOWED.sub('-', Path(path).stem).strip('-') or 'run'


def make_run_name(team: int, name: str, time: datetime | None = None, suffix: str | None = None) -> str:
    """``T<team, two digits>_<MMDD-HHMM>_<name>_<5 hex>``, for example ``T07_0314-1559_joint_a1b2c``.

    Args:
        team: 0..99.
        name: Letters, digits, dot, underscore, hyphen: it becomes a file name.
        time: Now by default.
        suffix: Five lower-case hexadecimal digits; random by default.

    Raises:
        ValueError: If an argument does not fit the pattern.
    """
    suffix = secrets.token_hex(3)[:5] if suffix is None else suffix
    if not 0 <= team <= 99:
        raise ValueError(f'`team` should be 0..99. Found {team}.')
    if not _ALLOWED.fullmatch(name):
        raise ValueError(f'`name` should consist of letters, digits, ".", "_" and "-". Found {name!r}.')
    if not re.fullmatch('[0-9a-f]{5}', suffix):
        raise ValueError(f'`suffix` should be five hexadecimal digits. Found {suffix!r}.')
    return f'T{team:02d}_{time or datetime.now():%m%d-%H%M}_{name}_{suffix}'
