"""One plain view of an image, for evaluation."""

import torch
import torchvision.transforms.v2.functional as F
from mmcv.transforms import BaseTransform

from mtl_plugins.registry import TRANSFORMS


@TRANSFORMS.register_module()
class ResizeCrop(BaseTransform):
    """The middle square of the image, resized. Nothing is random.

    Adds ``views``: one uint8 array ``(size, size, 3)``.

    Args:
        size: Side of the view.

    Raises:
        ValueError: If ``size`` is not positive.
    """

    def __init__(self, size: int = 64):
        if size < 1:
            raise ValueError(f'`size` should be positive. Found {size}.')
        self.size = size

    def transform(self, results: dict) -> dict:
        image = torch.from_numpy(results['img']).permute(2, 0, 1)
        height, width = image.shape[1:]
        side = min(height, width)
        area = ((height - side) // 2, (width - side) // 2, side, side)
        view = F.resized_crop(image, *area, size=[self.size, self.size], antialias=True)
        results['views'] = [view.permute(1, 2, 0).contiguous().numpy()]
        return results
