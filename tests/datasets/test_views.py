"""Views for pretraining against PIL and closed forms, and their batches."""

import numpy as np
import pytest
import torch
from PIL import Image

from mtl_plugins.datasets.loading.collate import view_collate
from mtl_plugins.datasets.transforms.formatting import PackViews
from mtl_plugins.datasets.transforms.multi_crop import MultiCrop, ResizeCrop, sample_area

NO_COLOUR = dict(colour_jitter=(0.0, 0.0, 0.0, 0.0), jitter_prob=0.0, grey_prob=0.0, blur=(0, 0, 0), solarise=(0, 0, 0))
WHOLE = dict(global_scale=(1.0, 1.0), local_scale=(1.0, 1.0), ratio=(1.0, 1.0), flip_prob=0.0)


def picture(height=48, width=60, seed=0):
    """Smooth colours, so that another rounding matters little."""
    small = np.random.default_rng(seed).integers(20, 235, (6, 7, 3), dtype=np.uint8)
    return np.array(Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC))


def views_of(image, seed=0, **options):
    return MultiCrop(**options)(dict(img=image, rng=np.random.default_rng(seed)))['views']


def test_views_follow_from_the_generator_alone():
    state = torch.get_rng_state()
    first = views_of(picture(), 5)
    np.random.seed(1)  # noqa: NPY002
    again, other = views_of(picture(), 5), views_of(picture(), 6)
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert not any(np.array_equal(a, b) for a, b in zip(first, other, strict=True))
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize('seed', range(4))
def test_views_without_colours_are_parts_of_the_image_as_pil_resizes_them(seed):
    image = picture(seed=seed)
    options = dict(global_size=24, num_local=2, local_size=12, global_scale=(0.3, 0.9), flip_prob=0.0, **NO_COLOUR)
    views = views_of(image, seed, **options)
    rng = np.random.default_rng(seed)
    for view, scale in zip(views, ((0.3, 0.9), (0.3, 0.9), (0.05, 0.4), (0.05, 0.4)), strict=True):
        top, left, height, width = sample_area(rng, (48, 60), scale, (3 / 4, 4 / 3))
        rng.random(5)  # Flip, jitter, grey, blur, solarise.
        part = Image.fromarray(image[top : top + height, left : left + width])
        expected = np.array(part.resize(view.shape[1::-1], Image.Resampling.BILINEAR))
        assert np.abs(view.astype(int) - expected).max() <= 2


def test_areas_have_the_shares_and_proportions_asked_for():
    rng = np.random.default_rng(0)
    areas = np.array([sample_area(rng, (200, 300), (0.1, 0.3), (0.5, 2.0)) for _ in range(2000)])
    top, left, height, width = areas.T
    assert top.min() >= 0 and left.min() >= 0 and (top + height).max() <= 200 and (left + width).max() <= 300
    share, ratio = height * width / 60_000, width / height
    assert 0.097 < share.min() and share.max() < 0.303 and abs(share.mean() - 0.2) < 0.01
    assert 0.48 < ratio.min() and ratio.max() < 2.07 and abs(np.log(ratio).mean()) < 0.04
    # Uniform positions: the centres lie about the image's.
    assert abs((left + width / 2).mean() - 150) < 5 and abs((top + height / 2).mean() - 100) < 5


@pytest.mark.parametrize('size, expected', [((20, 400), (0, 186, 20, 27)), ((400, 20), (186, 0, 27, 20)), ((1, 1), (0, 0, 1, 1))])
def test_images_too_narrow_for_any_such_part(size, expected):
    assert sample_area(np.random.default_rng(0), size, (0.9, 1.0), (3 / 4, 4 / 3)) == expected


def test_mirrored_grey_solarised_and_blurred_views():
    options = {**WHOLE, **NO_COLOUR, 'global_size': 41, 'num_local': 1, 'local_size': 41}
    image = picture(41, 41)
    first, second, local = views_of(image, **{**options, 'solarise': (0.0, 1.0, 0.0)})
    np.testing.assert_array_equal(first, image)
    np.testing.assert_array_equal(local, image)
    np.testing.assert_array_equal(second, np.where(image >= 128, 255 - image, image))
    np.testing.assert_array_equal(views_of(image, **{**options, 'flip_prob': 1.0})[0], image[:, ::-1])
    expected = image @ np.array([0.299, 0.587, 0.114])  # ITU-R BT.601
    assert np.abs(views_of(image, **{**options, 'grey_prob': 1.0})[0] - expected[..., None]).max() <= 1.5
    image = np.zeros((41, 41, 3), np.uint8)
    image[20, 20] = 255
    first, second, local = views_of(image, **{**options, 'blur': (1.0, 0.0, 1.0), 'blur_sigma': (1.5, 1.5)})
    np.testing.assert_array_equal(second, image)
    y, x = np.mgrid[-20:21, -20:21]
    expected = 255 / (2 * np.pi * 1.5**2) * np.exp(-(x**2 + y**2) / (2 * 1.5**2))
    assert np.abs(np.stack([first, local])[..., 0] - expected).max() < 1.5


@pytest.mark.parametrize('position, most', [(0, 0.4), (1, 0.3), (2, 0.5)])
def test_strength_of_the_colours(position, most):
    """Brightness scales, contrast draws to the mean of grey, saturation to grey: each by a factor within the bounds."""
    strength = [most if place == position else 0.0 for place in range(4)]
    options = {**WHOLE, **NO_COLOUR, 'global_size': 20, 'num_local': 0, 'jitter_prob': 1.0, 'colour_jitter': strength}
    image = picture(20, 20, seed=3) // 2 + 40
    grey = image @ np.array([0.299, 0.587, 0.114])
    anchor = (np.zeros_like(grey), np.full_like(grey, grey.mean()), grey)[position][..., None]
    factors = []
    for seed in range(40):
        for view in views_of(image, seed, **options):
            clear = (view > 0) & (view < 255) & (np.abs(image - anchor) > 10)
            ratios = ((view - anchor) / (image - anchor))[clear]
            assert ratios.std() < 0.06
            factors.append(np.median(ratios))
    assert 1 - most - 0.02 < min(factors) < 1 - 0.8 * most and 1 + 0.8 * most < max(factors) < 1 + most + 0.02


@pytest.mark.parametrize('height, width', [(48, 60), (60, 48), (32, 32), (10, 14)])
def test_resize_crop_is_the_middle_square(height, width):
    image = picture(height, width)
    (view,) = ResizeCrop(size=24)(dict(img=image))['views']
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    expected = Image.fromarray(image[top : top + side, left : left + side]).resize((24, 24), Image.Resampling.BILINEAR)
    assert np.abs(view.astype(int) - np.array(expected)).max() <= 2


def item(number, views=((8, 8, 3), (4, 4, 3)), **entries):
    arrays = [np.full(shape, number, np.uint8) for shape in views]
    return PackViews()(dict(views=arrays, sample_idx=number, img_path=f'{number}.jpg', img=0, **entries))


def test_batches_have_a_tensor_per_view():
    batch = view_collate([item(3, label=1), item(7), item(5, label=0)])
    assert [view.shape for view in batch['inputs']] == [(3, 8, 8, 3), (3, 4, 4, 3)]
    assert all(view.dtype == torch.uint8 and view[:, 0, 0, 0].tolist() == [3, 7, 5] for view in batch['inputs'])
    assert batch['labels'].tolist() == [1, -1, 0] and batch['sample_idx'].tolist() == [3, 7, 5]
    assert batch['labels'].dtype == batch['sample_idx'].dtype == torch.int64
    assert batch['metainfo'][1] == dict(img_path='7.jpg', sample_idx=7)
    training = PackViews(meta_keys=())(dict(views=[np.zeros((2, 2, 3), np.uint8)], sample_idx=0))
    assert 'metainfo' not in view_collate([training])
    for views in (((8, 8, 3),), ((8, 8, 3), (5, 4, 3))):
        with pytest.raises(ValueError, match=r'`items` should have views of the same sizes. Found \[\(8, 8, 3\), \(4, 4, 3\)\]'):
            view_collate([item(0), item(1, views)])
