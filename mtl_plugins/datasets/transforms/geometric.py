"""One random homography per sample, or another size, the same for image and labels."""

import logging
from collections.abc import Sequence

import cv2
import numpy as np
from mmcv.image.geometric import cv2_interp_codes
from mmcv.transforms import BaseTransform
from mmengine.logging import print_log

from mtl_plugins.errors import ArgumentError, check_choice
from mtl_plugins.registry import TRANSFORMS


def _translation(x: float, y: float) -> np.ndarray:
    return np.array([[1.0, 0.0, x], [0.0, 1.0, y], [0.0, 0.0, 1.0]])


def crop_to_image(
    crop_size: tuple[int, int],
    offset: tuple[float, float],
    zoom: float = 1.0,
    tilt_deg: float = 0.0,
    wiggle: np.ndarray | None = None,
    flip: bool = False,
) -> np.ndarray:
    """The homography from pixels ``(x, y, 1)`` of a crop to pixels of the image it is taken from.

    Seen from the crop: mirror left and right, move the corners, rotate about the centre, divide by the zoom, move to the
    offset. Pixel centres are whole numbers, so the crop covers ``[-0.5, width - 0.5] x [-0.5, height - 0.5]``.

    Args:
        crop_size: Height and width.
        offset: ``(x, y)`` in the image, in pixels from its corner, of the top left corner of the area that the crop covers if
            not tilted or wiggled.
        zoom: Crop pixels per image pixel: the crop covers ``1 / zoom`` times its size.
        tilt_deg: Angle.
        wiggle: ``(4, 2)`` displacements ``(x, y)`` of the corners, as shares of the crop's width and height, clockwise from
            the top left one. Each should be less than 0.5. Where they bend the area out of convex shape, so that no camera could
            see it, half of them is taken, which never does.
        flip: Whether to mirror.

    Returns:
        ``(3, 3)`` float64.
    """
    height, width = crop_size
    matrix = _translation(0.5, 0.5)
    if flip:
        matrix = np.array([[-1.0, 0.0, width], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]) @ matrix
    if wiggle is not None:
        matrix = _move_corners(crop_size, wiggle) @ matrix
    matrix = _translation(-width / 2, -height / 2) @ matrix
    cosine, sine = np.cos(np.deg2rad(tilt_deg)), np.sin(np.deg2rad(tilt_deg))
    rotation = np.array([[cosine / zoom, -sine / zoom, 0.0], [sine / zoom, cosine / zoom, 0.0], [0.0, 0.0, 1.0]])
    centre = (offset[0] + width / zoom / 2, offset[1] + height / zoom / 2)
    return _translation(-0.5, -0.5) @ _translation(*centre) @ rotation @ matrix


def _move_corners(crop_size: tuple[int, int], wiggle: np.ndarray) -> np.ndarray:
    height, width = crop_size
    corners = np.array([[0, 0], [width, 0], [width, height], [0, height]], dtype=np.float32)
    for strength in (1.0, 0.5):
        moved = corners + (strength * wiggle * (width, height)).astype(np.float32)
        sides = np.roll(moved, -1, axis=0) - moved
        following = np.roll(sides, -1, axis=0)
        if (sides[:, 0] * following[:, 1] - sides[:, 1] * following[:, 0] > 0).all():
            break
    return cv2.getPerspectiveTransform(corners, moved)


def warp(array: np.ndarray, matrix: np.ndarray, crop_size: tuple[int, int], interpolation: str, border: int) -> np.ndarray:
    """Sample ``array`` at ``matrix @ (x, y, 1)`` for each pixel of the crop; ``border`` beyond its edge."""
    return cv2.warpPerspective(
        array,
        matrix,
        crop_size[::-1],
        flags=cv2_interp_codes[interpolation] | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_CONSTANT,
        borderValue=(border, border, border),
    )


@TRANSFORMS.register_module()
class RandomHomography(BaseTransform):
    """Random scale, tilt, perspective wiggle, crop and reflection as one homography, applied once per modality.

    The image is interpolated, label maps are sampled at the nearest pixel, and their values follow (a mirrored normal points the
    other way). Beyond the edge of the image there is black, and what does not count in a label. With scale 1, no tilt and no
    wiggle, a crop inside the image is cut out by slicing, with the same result. All randomness comes from ``results['rng']``.
    The first image that no zoom makes as large as the crop is told in a warning.

    Args:
        crop_size: Side, or height and width, of the result.
        scale: Smallest and largest zoom, drawn uniformly; above 1 magnifies.
        max_tilt_deg: The angle is drawn uniformly from ``[-max, max]``.
        max_wiggle: Largest displacement of a corner, per axis, as a share of the crop's side; in ``[0, 0.5)``.
        flip_prob: Probability of mirroring left and right.
        rescale_depth: Whether to divide lengths by the zoom (through ``length_scale``): a camera of fixed focal length sees an
            object ``zoom`` times as large from ``1 / zoom`` of the distance.
        interpolation: Of the image, ``'bilinear'`` or ``'bicubic'``. Bilinear blurs it at zooms near 1, bicubic less: what is
            learned from fine texture then holds better for images as they are.

    Raises:
        ArgumentError: If an argument is out of its range.
    """

    def __init__(
        self,
        crop_size: int | tuple[int, int],
        scale: tuple[float, float] = (1.0, 1.0),
        max_tilt_deg: float = 0.0,
        max_wiggle: float = 0.0,
        flip_prob: float = 0.5,
        rescale_depth: bool = False,
        interpolation: str = 'bilinear',
    ):
        sides = tuple(crop_size) if isinstance(crop_size, Sequence) else (crop_size, crop_size)
        if len(sides) != 2 or not all(isinstance(side, int) and side > 0 for side in sides):
            raise ArgumentError(f'`crop_size` should be one or two positive integers. Found {crop_size!r}.')
        if not isinstance(scale, Sequence) or len(scale) != 2 or not 0 < scale[0] <= scale[1] < float('inf'):
            raise ArgumentError(f'`scale` should be (min, max) with 0 < min <= max. Found {scale!r}.')
        if not 0 <= max_tilt_deg <= 180:
            raise ArgumentError(f'`max_tilt_deg` should be in [0, 180]. Found {max_tilt_deg}.')
        if not 0 <= max_wiggle < 0.5:
            raise ArgumentError(f'`max_wiggle` should be in [0, 0.5). Found {max_wiggle}.')
        if not 0 <= flip_prob <= 1:
            raise ArgumentError(f'`flip_prob` should be in [0, 1]. Found {flip_prob}.')
        if rescale_depth and tuple(scale) == (1.0, 1.0):
            raise ArgumentError('`rescale_depth` should be False without a `scale`, as there is no zoom. Found True.')
        check_choice('interpolation', interpolation, ('bilinear', 'bicubic'))
        self.crop_size = sides
        self.scale = tuple(scale)
        self.max_tilt_deg = max_tilt_deg
        self.max_wiggle = max_wiggle
        self.flip_prob = flip_prob
        self.rescale_depth = rescale_depth
        self.interpolation = interpolation
        self._has_warned = False
        self._crops_only = self.scale == (1.0, 1.0) and max_tilt_deg == 0 and max_wiggle == 0

    def transform(self, results: dict) -> dict:
        image_height, image_width = results['img'].shape[:2]
        height, width = self.crop_size
        if not self._has_warned and (height > image_height * self.scale[1] or width > image_width * self.scale[1]):
            self._has_warned = True
            found, fitting = f'{image_height}x{image_width}', f'{min(height, image_height)}x{min(width, image_width)}'
            print_log(
                f'The training crops of {height}x{width} are larger than the images, such as one of {found}: '
                f'what is beyond the image is black, has no label and costs time. `--size {fitting}` avoids this.',
                logger='current',
                level=logging.WARNING,
            )
        view = self.sample_view(results['rng'], (image_height, image_width))
        x, y = view['offset']
        sliced = self._crops_only and 0 <= x <= image_width - width and 0 <= y <= image_height - height
        matrix = None if sliced else crop_to_image(self.crop_size, **view)
        maps = {'img': 0, **{kind.key: kind.invalid for kind in results['labels'].values()}}
        for key, border in maps.items():
            if key not in results:
                continue
            if sliced:
                crop = results[key][y : y + height, x : x + width]
                results[key] = cv2.flip(crop, 1) if view['flip'] else crop
            else:
                interpolation = self.interpolation if key == 'img' else 'nearest'
                results[key] = warp(results[key], matrix, self.crop_size, interpolation, border)
        for kind in results['labels'].values():
            if kind.key in results:
                results[kind.key] = kind.move(results[kind.key], flip=view['flip'], tilt_deg=view['tilt_deg'])
        if self.rescale_depth:
            results['length_scale'] = results.get('length_scale', 1.0) / view['zoom']
        return results

    def sample_view(self, rng: np.random.Generator, image_size: tuple[int, int]) -> dict:
        """Draw the arguments of `crop_to_image`. The area lies within the image, or the image within the area, before it is
        tilted and wiggled; whole pixels if nothing is resampled."""
        zoom = rng.uniform(*self.scale)
        position = rng.random(2)
        offset = []
        for share, image_side, side in zip(position, image_size[::-1], self.crop_size[::-1], strict=True):
            room = image_side - side / zoom
            if self._crops_only:
                offset.append(int(share * (abs(room) + 1)) * (1 if room >= 0 else -1))
            else:
                offset.append(share * room)
        return dict(
            offset=tuple(offset),
            zoom=zoom,
            tilt_deg=rng.uniform(-self.max_tilt_deg, self.max_tilt_deg) if self.max_tilt_deg else 0.0,
            wiggle=rng.uniform(-self.max_wiggle, self.max_wiggle, (4, 2)) if self.max_wiggle else None,
            flip=bool(rng.random() < self.flip_prob),
        )


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
