"""Items of views to one batch with a tensor per view."""

from collections.abc import Sequence

import numpy as np
import torch
from mmengine.registry import FUNCTIONS


@FUNCTIONS.register_module()
def view_collate(items: Sequence[dict]) -> dict:
    """Stack items of `PackViews`.

    Args:
        items: One dictionary per sample, all with the same number of views and, view by view, of the same size.

    Returns:
        ``inputs``, a list with a uint8 tensor ``(B, H, W, 3)`` per view; ``labels`` int64 ``(B,)``, -1 where unknown;
        ``sample_idx`` int64 ``(B,)``; ``metainfo``, a list, if the items have it.

    Raises:
        ValueError: If the views of two items differ in number or size.
    """
    shapes = [[view.shape for view in item['inputs']] for item in items]
    different = next((found for found in shapes if found != shapes[0]), None)
    if different is not None:
        raise ValueError(f'`items` should have views of the same sizes. Found {shapes[0]} and {different}.')
    batch = dict(
        inputs=[torch.from_numpy(np.stack(views)) for views in zip(*(item['inputs'] for item in items), strict=True)],
        labels=torch.tensor([item['label'] for item in items], dtype=torch.int64),
        sample_idx=torch.tensor([item['sample_idx'] for item in items], dtype=torch.int64),
    )
    if 'metainfo' in items[0]:
        batch['metainfo'] = [item['metainfo'] for item in items]
    return batch
