"""Several views of each image, from the loader's bytes to normalised floats on the device."""

from collections.abc import Sequence

import torch
from mmengine.model import BaseDataPreprocessor
from torch import Tensor

from mtl_plugins.errors import ArgumentError
from mtl_plugins.registry import MODELS


@MODELS.register_module()
class MultiViewDataPreprocessor(BaseDataPreprocessor):
    """Moves a batch of views to the device and normalises them.

    In: ``inputs``, a list of uint8 ``(B, H, W, 3)`` RGB, sizes differing between views, or one such tensor; ``labels``,
    ``sample_idx`` and ``metainfo``, all optional. Out: ``inputs``, a list of float32 ``(B, 3, H, W)`` in the channels-last memory
    format, and the others as they came.

    Args:
        mean: Per channel, on 0..255.
        std: Per channel, on 0..255.
        non_blocking: Whether the copy to the device returns early; needs pinned memory.

    Raises:
        ArgumentError: If ``mean`` or ``std`` has not three entries, or on a batch whose views are not ``(B, H, W, 3)``.
    """

    def __init__(self, *, mean: Sequence[float], std: Sequence[float], non_blocking: bool = True) -> None:
        super().__init__(non_blocking=non_blocking)
        if len(mean) != 3 or len(std) != 3 or min(std) <= 0:
            raise ArgumentError(f'`mean` and `std` should have three entries each, std > 0. Found {mean} and {std}.')
        self.register_buffer('mean', torch.tensor(mean, dtype=torch.float32), persistent=False)
        self.register_buffer('std', torch.tensor(std, dtype=torch.float32), persistent=False)

    def forward(self, data: dict, training: bool = False) -> dict:
        data = self.cast_data(data)
        views = [data['inputs']] if isinstance(data['inputs'], Tensor) else data['inputs']
        others = {key: data[key] for key in ('labels', 'sample_idx', 'metainfo') if key in data}
        return dict(inputs=[self.normalise(view) for view in views], **others)

    def normalise(self, view: Tensor) -> Tensor:
        if view.ndim != 4 or view.shape[-1] != 3:
            raise ArgumentError(f'A view in `inputs` should have the shape (B, H, W, 3). Found {tuple(view.shape)}.')
        # Whole rows at once: broadcasting along an innermost axis of 3 is several times slower on a CPU.
        mean, std = (values.repeat(view.shape[2]) for values in (self.mean, self.std))
        rows = view.flatten(2).to(torch.float32, copy=True).sub_(mean).div_(std)
        return rows.view(view.shape).permute(0, 3, 1, 2)
