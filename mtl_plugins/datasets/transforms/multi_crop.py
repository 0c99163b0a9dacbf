"""Views of one image, for learning without labels: several random ones, or its middle."""

import math
from collections.abc import Sequence
from types import ModuleType

import numpy as np
import torch
from mmcv.transforms import BaseTransform

from mtl_plugins.errors import ArgumentError
from mtl_plugins.registry import TRANSFORMS

_SOLARISE_FROM = 128


def sample_area(
    rng: np.random.Generator, image_size: tuple[int, int], scale: tuple[float, float], ratio: tuple[float, float]
) -> tuple[int, int, int, int]:
    """Top, left, height and width of a random part of an image.

    Its area is a share of the image's drawn uniformly from ``scale``, its width / height is drawn from ``ratio``, uniformly in
    the logarithm. Where ten draws do not fit, the middle of the image, as far as ``ratio`` lets it.
    """
    height, width = image_size
    for _ in range(10):
        area = height * width * rng.uniform(*scale)
        aspect = math.exp(rng.uniform(math.log(ratio[0]), math.log(ratio[1])))
        crop_height, crop_width = round(math.sqrt(area / aspect)), round(math.sqrt(area * aspect))
        if 0 < crop_height <= height and 0 < crop_width <= width:
            top, left = rng.integers(height - crop_height + 1), rng.integers(width - crop_width + 1)
            return int(top), int(left), crop_height, crop_width
    crop_height, crop_width = min(height, max(round(width / ratio[0]), 1)), min(width, max(round(height * ratio[1]), 1))
    return (height - crop_height) // 2, (width - crop_width) // 2, crop_height, crop_width


def _functional() -> ModuleType:
    """Return torchvision's functions, which few trainings need; constructors call it so that workers start with them."""
    from torchvision.transforms.v2 import functional

    return functional


@TRANSFORMS.register_module()
class MultiCrop(BaseTransform):
    """DINO's views (arXiv 2104.14294, section 3.1 and appendix A): two large ones of most of the image, small ones of details.

    Each view is a random part, resized, mirrored by chance, with random brightness, contrast, saturation and hue in random order,
    by chance grey, blurred and solarised. All randomness comes from ``results['rng']``, so a view is repeated exactly; the
    operations are torchvision's on uint8.

    Adds ``views``: uint8 arrays ``(size, size, 3)``, the two global ones first.

    Args:
        global_size, local_size: Side of the views.
        num_local: Number of small views.
        global_scale, local_scale: Smallest and largest share of the image's area.
        ratio: Smallest and largest width / height of the part.
        flip_prob: Probability of mirroring left and right.
        colour_jitter: Strength of brightness, contrast, saturation and hue. The first three are factors drawn from
            ``[1 - strength, 1 + strength]``, hue a shift from ``[-strength, strength]`` of the circle. Hue costs as much as all
            the rest.
        jitter_prob, grey_prob: Probability of the colour jitter and of a grey view.
        blur: Probability of a Gaussian blur of the first global, the second global and a local view.
        blur_sigma: Smallest and largest standard deviation, in pixels of the view.
        solarise: Probability of inverting values from 128 on, as for ``blur``.

    Raises:
        ArgumentError: If an argument is out of its range.
    """

    def __init__(
        self,
        global_size: int = 64,
        local_size: int = 32,
        num_local: int = 4,
        global_scale: tuple[float, float] = (0.4, 1.0),
        local_scale: tuple[float, float] = (0.05, 0.4),
        ratio: tuple[float, float] = (3 / 4, 4 / 3),
        flip_prob: float = 0.5,
        colour_jitter: tuple[float, float, float, float] = (0.4, 0.4, 0.2, 0.1),
        jitter_prob: float = 0.8,
        grey_prob: float = 0.2,
        blur: tuple[float, float, float] = (1.0, 0.1, 0.5),
        blur_sigma: tuple[float, float] = (0.1, 1.0),
        solarise: tuple[float, float, float] = (0.0, 0.2, 0.0),
    ):
        if min(global_size, local_size) < 1 or num_local < 0:
            raise ArgumentError(
                f'`global_size` and `local_size` should be positive and `num_local` not negative. '
                f'Found {global_size}, {local_size} and {num_local}.'
            )
        ranges = dict(global_scale=global_scale, local_scale=local_scale, ratio=ratio, blur_sigma=blur_sigma)
        for name, value in ranges.items():
            top = 1 if name.endswith('scale') else math.inf
            if not isinstance(value, Sequence) or len(value) != 2 or not 0 < value[0] <= value[1] <= top:
                raise ArgumentError(f'`{name}` should be (min, max) with 0 < min <= max <= {top}. Found {value!r}.')
        shares = dict(flip_prob=(flip_prob,), jitter_prob=(jitter_prob,), grey_prob=(grey_prob,), blur=blur, solarise=solarise)
        for name, value in dict(shares, colour_jitter=colour_jitter).items():
            length = dict(blur=3, solarise=3, colour_jitter=4).get(name, 1)
            if len(value) != length or not all(0 <= item <= 1 for item in value):
                raise ArgumentError(f'`{name}` should be {length} number(s) in [0, 1]. Found {value!r}.')
        if colour_jitter[3] > 0.5:
            raise ArgumentError(f'The hue of `colour_jitter` should be at most 0.5. Found {colour_jitter[3]}.')
        _functional()
        self.sizes = (global_size, global_size, *[local_size] * num_local)
        self.scales = (tuple(global_scale), tuple(global_scale), *[tuple(local_scale)] * num_local)
        self.ratio = tuple(ratio)
        self.flip_prob = flip_prob
        self.colour_jitter = tuple(colour_jitter)
        self.jitter_prob, self.grey_prob = jitter_prob, grey_prob
        self.blur_sigma = tuple(blur_sigma)
        self.blur, self.solarise = ((*share[:2], *[share[2]] * num_local) for share in (blur, solarise))

    def transform(self, results: dict) -> dict:
        image = torch.from_numpy(results['img']).permute(2, 0, 1)
        results['views'] = [self._view(results['rng'], image, number) for number in range(len(self.sizes))]
        return results

    def _view(self, rng: np.random.Generator, image: torch.Tensor, number: int) -> np.ndarray:
        F, size = _functional(), self.sizes[number]
        area = sample_area(rng, image.shape[1:], self.scales[number], self.ratio)
        view = F.resized_crop(image, *area, size=[size, size], antialias=True)
        if rng.random() < self.flip_prob:
            view = F.horizontal_flip(view)
        if rng.random() < self.jitter_prob:
            view = self._jitter(rng, view)
        if rng.random() < self.grey_prob:
            view = F.rgb_to_grayscale(view, num_output_channels=3)
        if rng.random() < self.blur[number]:
            sigma = rng.uniform(*self.blur_sigma)
            side = 2 * math.ceil(2.5 * sigma) + 1
            if side // 2 < size:
                view = F.gaussian_blur(view, [side, side], [sigma, sigma])
        if rng.random() < self.solarise[number]:
            view = F.solarize(view, _SOLARISE_FROM)
        return view.permute(1, 2, 0).contiguous().numpy()

    def _jitter(self, rng: np.random.Generator, view: torch.Tensor) -> torch.Tensor:
        brightness, contrast, saturation, hue = (rng.uniform(-strength, strength) for strength in self.colour_jitter)
        F = _functional()
        steps = (
            lambda image: F.adjust_brightness(image, 1 + brightness),
            lambda image: F.adjust_contrast(image, 1 + contrast),
            lambda image: F.adjust_saturation(image, 1 + saturation),
            lambda image: F.adjust_hue(image, hue),
        )
        for k in rng.permutation(4):
            if self.colour_jitter[k] > 0:
                view = steps[k](view)
        return view


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
        _functional()
        self.size = size

    def transform(self, results: dict) -> dict:
        image = torch.from_numpy(results['img']).permute(2, 0, 1)
        height, width = image.shape[1:]
        side = min(height, width)
        area = ((height - side) // 2, (width - side) // 2, side, side)
        view = _functional().resized_crop(image, *area, size=[self.size, self.size], antialias=True)
        results['views'] = [view.permute(1, 2, 0).contiguous().numpy()]
        return results
