"""Trained models as folders: weights, the config as data, a card. Those that the package brings are called by their names."""

import os
from pathlib import Path
from typing import Any

from mtl_plugins.errors import CheckpointError
from mtl_plugins.utils.data_files import is_text, read_json

ZOO = Path(__file__).resolve().parents[1] / 'zoo'
WEIGHTS_NAME, CONFIG_NAME, CARD_NAME = 'model.safetensors', 'config.json', 'README.md'
# `about` is what `mtl zoo` writes: scores, where the model comes from, what it is for.
_FORM = dict(sha256=is_text, config={}, about={})


def zoo_names() -> list[str]:
    """Return the names of the models that the package brings."""
    return sorted(path.parent.name for path in ZOO.glob(f'*/{CONFIG_NAME}'))


def is_pretrained(model: str | os.PathLike | None) -> bool:
    """Return True for the name of a model of the zoo, and for a folder that holds one."""
    return bool(model) and (str(model) in zoo_names() or all((Path(model) / n).is_file() for n in (WEIGHTS_NAME, CONFIG_NAME)))


def locate_checkpoint(checkpoint: str | os.PathLike) -> Path:
    """Return the file of the weights: of a name in the zoo, of a folder, or the given path. A name wins over a path."""
    if not is_pretrained(checkpoint):
        return Path(checkpoint).expanduser()
    return (ZOO / checkpoint if str(checkpoint) in zoo_names() else Path(checkpoint)) / WEIGHTS_NAME


def describe_missing(path: str | os.PathLike) -> str:
    """Return the end of a sentence on a file that does not exist: if it could be a name, those of the zoo."""
    is_name = not Path(path).suffix and len(Path(path).parts) == 1
    return f' does not exist, nor a model of that name in the zoo: {", ".join(zoo_names())}.' if is_name else ' does not exist.'


def read_description(folder: Path) -> dict[str, Any]:
    """Return what ``config.json`` beside weights says; nothing if there is none, or one of another library."""
    path = folder / CONFIG_NAME
    return read_json(path, 'config', _FORM, CheckpointError) if path.is_file() else {}
