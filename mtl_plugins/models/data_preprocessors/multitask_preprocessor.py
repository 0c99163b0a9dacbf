"""From the loader's byte tensors to what the model computes with, once per batch, on the device."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from mmengine.model import BaseDataPreprocessor
from torch import Tensor

from mtl_plugins.labels.depth_codec import DECODE_TABLE
from mtl_plugins.registry import MODELS

IGNORED_LABEL = 255


def pad_to_multiple(maps: Tensor, divisor: int, value: int) -> Tensor:
    """Pad axes 1 and 2 of ``(B, H, W, ...)`` at their ends to multiples of ``divisor``."""
    bottom, right = -maps.shape[1] % divisor, -maps.shape[2] % divisor
    if not bottom and not right:
        return maps
    return F.pad(maps, (*(0, 0) * (maps.ndim - 3), 0, right, 0, bottom), value=value)


@MODELS.register_module()
class MultiTaskDataPreprocessor(BaseDataPreprocessor):
    """Moves a batch to the device, normalises the image, decodes depth.

    In: ``inputs`` uint8 ``(B, H, W, 3)`` RGB; ``targets`` with any of ``semseg``, uint8 ``(B, H, W)``, and ``depth``, ``(B, H,
    W)`` as uint8 disparity codes or float metres; ``depth_scale`` ``(B,)``, a factor on metres, ``sample_idx`` and ``metainfo``,
    all optional. Out: ``inputs`` float32 ``(B, 3, H, W)`` in the channels-last memory format, ``targets`` with depth as float32
    metres (0 = invalid), and ``sample_idx`` and ``metainfo`` as they came, if they came.

    Args:
        mean: Per channel, on 0..255.
        std: Per channel, on 0..255.
        size_divisor: Pad right and bottom to multiples of it, the image with 0 before normalisation (black), labels with 255,
            depth with 0; None pads nothing.
        non_blocking: Whether the copy to the device returns early; needs pinned memory.

    Raises:
        ValueError: If ``mean`` or ``std`` has not three entries, or on a batch whose images are not ``(B, H, W, 3)``.
    """

    def __init__(
        self, *, mean: Sequence[float], std: Sequence[float], size_divisor: int | None = None, non_blocking: bool = True
    ) -> None:
        super().__init__(non_blocking=non_blocking)
        if len(mean) != 3 or len(std) != 3 or min(std) <= 0:
            raise ValueError(f'`mean` and `std` should have three entries each, std > 0. Found {mean} and {std}.')
        self.size_divisor = size_divisor
        self.register_buffer('mean', torch.tensor(mean, dtype=torch.float32).view(1, 3, 1, 1), persistent=False)
        self.register_buffer('std', torch.tensor(std, dtype=torch.float32).view(1, 3, 1, 1), persistent=False)
        self.register_buffer('metres', torch.tensor(DECODE_TABLE, dtype=torch.float32), persistent=False)

    def forward(self, data: dict, training: bool = False) -> dict:
        data = self.cast_data(data)
        images = data['inputs']
        if images.ndim != 4 or images.shape[-1] != 3:
            raise ValueError(f'`inputs` should have the shape (B, H, W, 3). Found {tuple(images.shape)}.')
        targets = dict(data.get('targets') or {})
        if self.size_divisor is not None:
            images = pad_to_multiple(images, self.size_divisor, 0)
            padding = dict(semseg=IGNORED_LABEL, depth=0)
            targets = {task: pad_to_multiple(maps, self.size_divisor, padding[task]) for task, maps in targets.items()}
        if 'depth' in targets:
            targets['depth'] = self.decode(targets['depth'], data.get('depth_scale'))
        # Broadcasting along an innermost axis of 3 is not vectorised on a CPU (5 times slower); along whole rows it is.
        mean, std = (values.flatten().repeat(images.shape[2]) for values in (self.mean, self.std))
        rows = images.flatten(2).to(torch.float32, copy=True).sub_(mean).div_(std)
        # The permuted view of (B, H, W, 3) is what torch calls channels-last: the conversion to float is the only copy.
        inputs = rows.view(images.shape).permute(0, 3, 1, 2)
        return dict(inputs=inputs, targets=targets, **{key: data[key] for key in ('sample_idx', 'metainfo') if key in data})

    def decode(self, depth: Tensor, scale: Tensor | None) -> Tensor:
        """Metres ``(B, H, W)`` of codes or metres, times the scale of each image."""
        if depth.dtype == torch.uint8:
            # 6 times as fast on a CPU as indexing by a map.
            metres = self.metres.index_select(0, depth.flatten().int()).view(depth.shape)
        else:
            metres = depth.to(torch.float32, copy=True)
        return metres if scale is None else metres.mul_(scale.view(-1, 1, 1))
