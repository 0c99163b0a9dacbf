"""Initial weights of a part of a model from a file: everything fits, or one sentence says what does not."""

import os
from collections.abc import Callable, Mapping

from torch import Tensor, nn

from mtl_plugins.errors import CheckpointError
from mtl_plugins.models.utils.weight_files import find_weights, load_weights
from mtl_plugins.utils.checkpoint_io import find_mismatch

Weights = dict[str, Tensor]


def select_weights(checkpoint: Mapping, prefix: str | None) -> Weights:
    """The state dict inside a loaded checkpoint.

    Args:
        checkpoint: A plain state dict, or a dictionary that holds one under ``state_dict`` or ``model``.
        prefix: Keep the keys that start with it, without it.
    """
    holders = (checkpoint[key] for key in ('state_dict', 'model') if isinstance(checkpoint.get(key), Mapping))
    weights = next(holders, checkpoint)
    weights = {key.removeprefix('module.'): value for key, value in weights.items() if isinstance(value, Tensor)}
    if prefix:
        weights = {key.removeprefix(prefix): value for key, value in weights.items() if key.startswith(prefix)}
    return weights


def load_pretrained(
    module: nn.Module,
    checkpoint: str | os.PathLike,
    *,
    prefix: str | None = None,
    convert: Callable[[Weights], Weights] | None = None,
    description: str | None = None,
) -> None:
    """Load the weights that ``checkpoint`` stands for into ``module``; never a part of them.

    Args:
        module: What to fill.
        checkpoint: As in :func:`find_weights`.
        prefix: Of the keys to load, None for all.
        convert: Gives the found weights the names and shapes of the module's, and leaves out what it has no use for.
        description: What the module is, for the error; its class by default.

    Raises:
        CheckpointError: If the file cannot be had or read, or names or shapes of its weights differ from the module's.
    """
    path = find_weights(checkpoint)
    weights = select_weights(load_weights(path), prefix)
    if convert is not None:
        weights = convert(weights)
    mismatch = find_mismatch(module.state_dict(), weights)
    if mismatch:
        within = f' below the prefix {prefix!r}' if prefix else ''
        raise CheckpointError(
            f'The weights in {path}{within} do not fit {description or type(module).__name__}: {mismatch}. Nothing was loaded.'
        )
    module.load_state_dict(weights, strict=False)
