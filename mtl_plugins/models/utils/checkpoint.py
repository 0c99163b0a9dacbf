"""Initial weights of a part of a model from a file: everything fits, or one sentence says what does not."""

from collections.abc import Mapping

from torch import Tensor, nn

from mtl_plugins.errors import CheckpointError


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

    A missing ``num_batches_tracked`` is forgiven: old files lack it, and BatchNorm with a momentum does not read it.

    Raises:
        CheckpointError: If the file cannot be read, or names or shapes of its weights differ from the module's.
    """
    from mmengine.runner.checkpoint import CheckpointLoader  # takes seconds, and only pretrained models need it

    try:
        checkpoint = CheckpointLoader.load_checkpoint(path, map_location='cpu')
    except OSError as error:
        raise CheckpointError(
            f'The weights in {path} cannot be read ({error}). Give the path of a local file that holds them as `checkpoint`.'
        ) from error
    weights = select_weights(checkpoint, prefix, ignored)
    own = module.state_dict()
    missing = [key for key in own if key not in weights and not key.endswith('num_batches_tracked')]
    unexpected = [key for key in weights if key not in own]
    reshaped = [key for key in own if key in weights and own[key].shape != weights[key].shape]
    problems = []
    if missing:
        problems.append(f'{len(missing)} of {len(own)} weights are missing (first: {missing[0]})')
    if unexpected:
        problems.append(f'{len(unexpected)} are not part of it (first: {unexpected[0]})')
    if reshaped:
        key = reshaped[0]
        shapes = f'{tuple(weights[key].shape)} in the file, {tuple(own[key].shape)} in the model'
        problems.append(f'{len(reshaped)} differ in shape (first: {key}, {shapes})')
    if problems:
        within = f' below the prefix {prefix!r}' if prefix else ''
        raise CheckpointError(
            f'The weights in {path}{within} do not fit {type(module).__name__}: {"; ".join(problems)}. Nothing was loaded.'
        )
    module.load_state_dict(weights, strict=False)
