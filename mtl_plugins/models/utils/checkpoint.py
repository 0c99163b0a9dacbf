"""Initial weights of a part of a model from a file: everything fits, or one sentence says what does not."""

from collections.abc import Mapping

from torch import Tensor, nn

from mtl_plugins.errors import CheckpointError
from mtl_plugins.utils import checkpoint_io


def select_weights(checkpoint: Mapping, prefix: str | None, ignored: tuple[str, ...]) -> dict[str, Tensor]:
    """The state dict inside a loaded checkpoint.

    Args:
        checkpoint: A plain state dict, or a dictionary that holds one under ``state_dict``.
        prefix: Keep the keys that start with it, without it.
        ignored: Leave out the keys that start with one of these.
    """
    weights = checkpoint.get('state_dict', checkpoint)
    weights = {key.removeprefix('module.'): value for key, value in weights.items() if isinstance(value, Tensor)}
    if prefix:
        weights = {key.removeprefix(prefix): value for key, value in weights.items() if key.startswith(prefix)}
    return {key: value for key, value in weights.items() if not key.startswith(ignored)}


def load_pretrained(module: nn.Module, path: str, *, prefix: str | None = None, ignored: tuple[str, ...] = ()) -> None:
    """Load the weights in ``path`` into ``module``; never a part of them.

    Raises:
        CheckpointError: If the file cannot be read, or names or shapes of its weights differ from the module's.
    """
    # mmengine's loader, which knows URLs and schemes; importing `checkpoint_io` made it safe for local files.
    try:
        checkpoint = checkpoint_io.CheckpointLoader.load_checkpoint(path, map_location='cpu')
    except OSError as error:
        raise CheckpointError(
            f'The weights in {path} cannot be read ({error}). Give the path of a local file that holds them as `checkpoint`.'
        ) from error
    weights = select_weights(checkpoint, prefix, ignored)
    mismatch = checkpoint_io.find_mismatch(module.state_dict(), weights)
    if mismatch:
        within = f' below the prefix {prefix!r}' if prefix else ''
        raise CheckpointError(
            f'The weights in {path}{within} do not fit {type(module).__name__}: {mismatch}. Nothing was loaded.'
        )
    module.load_state_dict(weights, strict=False)
