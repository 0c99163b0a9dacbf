"""Notes on runs of Weights & Biases."""

import os
from collections.abc import Sequence

from mtl_plugins.records.config_data import wandb_key
from mtl_plugins.utils.data_files import shorten

_PATIENCE_SECONDS = 10


def push_note(path: str, note: str | None, tags: Sequence[str]) -> str:
    """Write a note (None leaves it) and tags to a run of Weights & Biases; return a sentence on what became of it.

    Args:
        path: ``[entity/]project/id``, as records name it.
        note: Replaces that of the run.
        tags: Added to those of the run.
    """
    kept = 'The note is kept in the record only'
    if os.environ.get('WANDB_MODE') in ('offline', 'disabled'):
        return f'{kept}: WANDB_MODE is {os.environ["WANDB_MODE"]}.'
    # Without it wandb would ask for a key.
    os.environ.setdefault('WANDB_SILENT', 'true')
    try:
        import wandb
    except ImportError:
        return f"{kept}: the package wandb is not installed (pip install -e '.[tracking]')."
    try:
        run = wandb.Api(timeout=_PATIENCE_SECONDS, api_key=wandb_key()).run(path)
        run.notes, run.tags = run.notes if note is None else note, list(dict.fromkeys([*run.tags, *tags]))
        run.update()
    except (wandb.Error, ValueError, OSError) as error:
        return f'{kept}: Weights & Biases cannot be reached, or has no run {path} yet ({shorten(error).rstrip(".")}).'
    return f'Noted in the run {path} of Weights & Biases, too.'
