"""Items of a pipeline to one batch of a handful of tensors."""

import math
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from mmengine.registry import FUNCTIONS
from torch.utils.data import get_worker_info

from mtl_plugins.errors import ArgumentError, ConfigError


@FUNCTIONS.register_module()
def multitask_collate(items: Sequence[dict]) -> dict:
    """Stack items of `PackMultiTaskInputs`.

    Images of differing sizes are padded at the right and bottom to the largest: the image with 0, labels with what does not
    count. So is the whole map of a sample that lacks a label which another one has.

    Returns:
        ``inputs`` uint8 ``(B, H, W, 3)``; ``targets``: the stored maps ``(B, H, W)`` or ``(B, H, W, C)`` of each label that an
        item has; ``length_scale`` float32 ``(B,)``; ``sample_idx`` int64 ``(B,)``; ``metainfo``, a list, if the items have it.

    Raises:
        ConfigError: If the pipeline does not make such items.
        ArgumentError: If the items have different keys.
    """
    first = items[0]
    if not isinstance(first, Mapping) or 'inputs' not in first:
        found = ', '.join(map(str, first)) if isinstance(first, Mapping) else type(first).__name__
        raise ConfigError(f'The `pipeline` of a data set should end with PackMultiTaskInputs. Found samples of {found}.')
    if any(item.keys() != first.keys() for item in items):
        raise ArgumentError(f'`items` should have the same keys. Found {sorted({tuple(item) for item in items})}.')
    images = [item['inputs'] for item in items]
    batch = dict(inputs=_stack(images, padding=0), targets={})
    for name, kind in first['labels'].items():
        maps = [item['targets'].get(name) for item in items]
        if any(stored is not None for stored in maps):
            pairs = zip(maps, images, strict=True)
            maps = [kind.blank(image.shape[:2]) if stored is None else stored for stored, image in pairs]
            batch['targets'][name] = _stack(maps, kind.invalid)
    batch['length_scale'] = torch.tensor([item['length_scale'] for item in items], dtype=torch.float32)
    batch['sample_idx'] = torch.tensor([item['sample_idx'] for item in items], dtype=torch.int64)
    if 'metainfo' in first:
        batch['metainfo'] = [item['metainfo'] for item in items]
    return batch


def _stack(arrays: list[np.ndarray], padding: int) -> torch.Tensor:
    """Copy each array, a mere view of an image or a memory map so far, to its place in the batch: the only copy there is."""
    sizes = {array.shape[:2] for array in arrays}
    height, width = (max(sides) for sides in zip(*sizes, strict=True))
    batch = _empty((len(arrays), height, width, *arrays[0].shape[2:]), torch.from_numpy(np.empty(0, arrays[0].dtype)).dtype)
    target = batch.numpy()
    if len(sizes) > 1:
        target.fill(padding)
    for slot, array in zip(target, arrays, strict=True):
        slot[: array.shape[0], : array.shape[1]] = array
    return batch


def _empty(shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
    """An uninitialised tensor; in a worker process one in shared memory, which saves a copy on the way out."""
    if get_worker_info() is None:
        return torch.empty(shape, dtype=dtype)
    storage = torch.UntypedStorage._new_shared(math.prod(shape) * dtype.itemsize)
    return torch.empty(0, dtype=dtype).set_(storage, 0, shape)


@FUNCTIONS.register_module()
def view_collate(items: Sequence[dict]) -> dict:
    """Stack items of `PackViews`, with views of the same sizes.

    Returns:
        ``inputs``, a list with a uint8 tensor ``(B, H, W, 3)`` per view; ``labels`` int64 ``(B,)``, -1 where unknown;
        ``sample_idx`` int64 ``(B,)``; ``metainfo``, a list, if the items have it.

    Raises:
        ArgumentError: If the views of two items differ in number or size.
    """
    shapes = [[view.shape for view in item['inputs']] for item in items]
    different = next((found for found in shapes if found != shapes[0]), None)
    if different is not None:
        raise ArgumentError(f'`items` should have views of the same sizes. Found {shapes[0]} and {different}.')
    batch = dict(
        inputs=[torch.from_numpy(np.stack(views)) for views in zip(*(item['inputs'] for item in items), strict=True)],
        labels=torch.tensor([item['label'] for item in items], dtype=torch.int64),
        sample_idx=torch.tensor([item['sample_idx'] for item in items], dtype=torch.int64),
    )
    if 'metainfo' in items[0]:
        batch['metainfo'] = [item['metainfo'] for item in items]
    return batch
