"""Resizing."""

import cv2
import torch
import torchvision.transforms.v2.functional as F
from mmcv.transforms import BaseTransform

from mtl_plugins.errors import ArgumentError
from mtl_plugins.registry import TRANSFORMS


@TRANSFORMS.register_module()
class ResizeCrop(BaseTransform):
    """The middle square of the image, resized. Nothing is random.

    Adds ``views``: one uint8 array ``(size, size, 3)``.

    Args:
        size: Side of the view.

    Raises:
        ArgumentError: If ``size`` is not positive.
    """

    def __init__(self, size: int = 64):
        if size < 1:
            raise ArgumentError(f'`size` should be positive. Found {size}.')
        self.size = size

    def transform(self, results: dict) -> dict:
        image = torch.from_numpy(results['img']).permute(2, 0, 1)
        height, width = image.shape[1:]
        side = min(height, width)
        area = ((height - side) // 2, (width - side) // 2, side, side)
        view = F.resized_crop(image, *area, size=[self.size, self.size], antialias=True)
        results['views'] = [view.permute(1, 2, 0).contiguous().numpy()]
        return results


@TRANSFORMS.register_module()
class ResizeToCover(BaseTransform):
    """Resize image and labels, proportions kept, to the least size that covers ``size``.

    The image is resampled bilinearly (by areas when it shrinks), the labels at the nearest pixel. ``ori_shape`` becomes the new
    size: predictions are made and compared at it.

    Args:
        size: Side, or height and width, to cover.
        enlarge_only: Whether to leave an image alone that covers ``size`` already, as before random crops.

    Raises:
        ArgumentError: If ``size`` is not one or two positive integers.
    """

    def __init__(self, size: int | tuple[int, int], enlarge_only: bool = False):
        sides = (size, size) if isinstance(size, int) else tuple(size)
        if len(sides) != 2 or not all(isinstance(side, int) and side > 0 for side in sides):
            raise ArgumentError(f'`size` should be one or two positive integers. Found {size!r}.')
        self.size = sides
        self.enlarge_only = enlarge_only

    def new_size(self, height: int, width: int) -> tuple[int, int]:
        """Return the height and width that an image of this size gets."""
        zoom = max(self.size[0] / height, self.size[1] / width)
        if zoom == 1 or (zoom < 1 and self.enlarge_only):
            return height, width
        return max(round(height * zoom), self.size[0]), max(round(width * zoom), self.size[1])

    def transform(self, results: dict) -> dict:
        height, width = results['img'].shape[:2]
        new_size = self.new_size(height, width)[::-1]
        if new_size == (width, height):
            return results
        interpolation = cv2.INTER_AREA if new_size < (width, height) else cv2.INTER_LINEAR
        results['img'] = cv2.resize(results['img'], new_size, interpolation=interpolation)
        for kind in results['labels'].values():
            if kind.key in results:
                results[kind.key] = cv2.resize(results[kind.key], new_size, interpolation=cv2.INTER_NEAREST_EXACT)
        results['ori_shape'] = new_size[::-1]
        return results
