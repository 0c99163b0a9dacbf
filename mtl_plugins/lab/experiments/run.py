"""What the engine of sweeps knows of a training."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Run:
    """One training: a config with overrides and a seed, the folder it works in, and the JSON file that it leaves."""

    name: str
    label: str
    seed: int
    config: str
    options: dict[str, Any]
    folder: Path
    result: Path


@dataclass(frozen=True)
class Point:
    """A trial that is known before anything ran.

    Attributes:
        is_done: Whether its result is there and up to date; None where only the journal says so.
    """

    name: str
    seed: int
    params: dict[str, Any] = field(default_factory=dict)
    is_done: bool | None = None
