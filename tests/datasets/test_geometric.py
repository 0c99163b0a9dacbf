"""RandomHomography against coordinates written out by hand: maps whose values are their own positions."""

import re

import numpy as np
import pytest

from mtl_plugins.datasets.transforms.geometric import RandomHomography, crop_to_image, warp
from tests.fake_miniscapes import LABELS

HEIGHT, WIDTH = 120, 200
Y, X = np.mgrid[:HEIGHT, :WIDTH].astype(np.uint8)


def results(seed=0):
    """Red and label hold x, green and depth hold y, each plus 1 so that the fill values stand out (255 > 200)."""
    return dict(
        img=np.stack([X + 1, Y + 1, np.full_like(X, 200)], axis=-1),
        gt_seg_map=X + 1,
        gt_depth_map=Y + 1,
        length_scale=1.0,
        labels=LABELS,
        rng=np.random.default_rng(seed),
    )


def source_positions(crop_size, offset, zoom, tilt_deg, wiggle, flip):
    """Where each pixel of the crop comes from, by solving for the homography of the crop's corners in the image."""
    height, width = crop_size
    centre = np.array(offset) + np.array([width, height]) / zoom / 2
    corners = np.array([[0, 0], [width, 0], [width, height], [0, height]], float)
    moved = corners + (0 if wiggle is None else wiggle * (width, height))
    angle = np.deg2rad(tilt_deg)
    rotation = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    targets = centre + (moved - (width / 2, height / 2)) / zoom @ rotation.T
    if flip:
        corners = corners * (-1, 1) + (width, 0)
    rows = []
    for (x, y), (u, v) in zip(corners, targets, strict=True):
        rows.append([x, y, 1, 0, 0, 0, -u * x, -u * y, -u])
        rows.append([0, 0, 0, x, y, 1, -v * x, -v * y, -v])
    homography = np.linalg.svd(np.array(rows))[2][-1].reshape(3, 3)
    y, x = np.mgrid[:height, :width] + 0.5
    u, v, w = np.einsum('ij,jhw->ihw', homography, np.stack([x, y, np.ones_like(x)]))
    return u / w - 0.5, v / w - 0.5


VIEWS = {
    'crop': dict(offset=(30, 20), zoom=1.0, tilt_deg=0.0, wiggle=None, flip=False),
    'mirrored crop': dict(offset=(30, 20), zoom=1.0, tilt_deg=0.0, wiggle=None, flip=True),
    'zoom in': dict(offset=(30.3, 20.7), zoom=1.7, tilt_deg=0.0, wiggle=None, flip=False),
    'zoom out': dict(offset=(-7.2, 3.1), zoom=0.6, tilt_deg=0.0, wiggle=None, flip=True),
    'tilt': dict(offset=(60.0, 20.0), zoom=1.1, tilt_deg=25.0, wiggle=None, flip=False),
    'all': dict(
        offset=(50.5, 10.0),
        zoom=0.9,
        tilt_deg=-10.0,
        wiggle=np.array([[0.1, 0.05], [-0.2, 0.1], [0.02, -0.13], [-0.06, 0.2]]),
        flip=True,
    ),
}


@pytest.mark.parametrize('name', VIEWS)
def test_each_modality_comes_from_the_same_place(name):
    size = (64, 80)
    matrix = crop_to_image(size, **VIEWS[name])
    u, v = source_positions(size, **VIEWS[name])
    inside = (u > 0) & (u < WIDTH - 1) & (v > 0) & (v < HEIGHT - 1)
    outside = (u < -0.51) | (u > WIDTH - 0.49) | (v < -0.51) | (v > HEIGHT - 0.49)
    assert inside.sum() > 1000

    sample = results()
    image = warp(sample['img'], matrix, size, bilinear=True, border=0)
    label = warp(sample['gt_seg_map'], matrix, size, bilinear=False, border=255)
    depth = warp(sample['gt_depth_map'], matrix, size, bilinear=False, border=0)
    metres = warp(sample['gt_depth_map'].astype(np.float32), matrix, size, bilinear=False, border=0)

    # OpenCV before version 5 rounds positions to 1/32 pixel.
    assert np.abs(label[inside] - (u[inside] + 1)).max() <= 0.5 + 1 / 32
    assert np.abs(depth[inside] - (v[inside] + 1)).max() <= 0.5 + 1 / 32
    assert np.abs(image[inside][:, 0] - (u[inside] + 1)).max() <= 0.5 + 1 / 32
    assert np.abs(image[inside][:, 1] - (v[inside] + 1)).max() <= 0.5 + 1 / 32
    assert (image[inside][:, 2] == 200).all()
    np.testing.assert_array_equal(metres, depth)
    assert (label[outside] == 255).all() and (depth[outside] == 0).all()
    if name == 'zoom out':
        assert outside.any() and (image[outside] == 0).all()


@pytest.mark.parametrize('flip', [False, True])
def test_slicing_equals_the_warp(flip):
    size = (64, 80)
    transform = RandomHomography(size, flip_prob=float(flip))
    for seed in range(20):
        sample = results(seed)
        for key in ('img', 'gt_seg_map'):
            sample[key].setflags(write=False)
        sliced = transform(sample)
        view = transform.sample_view(np.random.default_rng(seed), (HEIGHT, WIDTH))
        matrix = crop_to_image(size, **view)
        for key, border in (('img', 0), ('gt_seg_map', 255), ('gt_depth_map', 0)):
            np.testing.assert_array_equal(sliced[key], warp(results()[key], matrix, size, key == 'img', border))


def test_sliced_crops_reach_every_position():
    transform = RandomHomography((HEIGHT - 2, WIDTH - 2), flip_prob=0)
    corners = {tuple(transform(results(seed))['img'][0, 0, :2]) for seed in range(200)}
    assert corners == {(x, y) for x in (1, 2, 3) for y in (1, 2, 3)}


@pytest.mark.parametrize('options', [{}, dict(scale=(0.3, 0.5))])
def test_image_smaller_than_the_crop_is_whole_and_filled_around(options):
    for seed in range(5):
        sample = RandomHomography((200, 400), **options)(results(seed))
        image, label, depth = sample['img'], sample['gt_seg_map'], sample['gt_depth_map']
        assert image.shape == (200, 400, 3) and label.shape == depth.shape == (200, 400)
        known = label != 255
        np.testing.assert_array_equal(known, depth != 0)
        assert (image[~known][:, 2] < 200).mean() > 0.9 and (image[known][:, 2] > 0).all()
        zoom = 1 if not options else np.sqrt(known.sum() / (HEIGHT * WIDTH))
        assert known.any(1).sum() == pytest.approx(HEIGHT * zoom, abs=2)
        assert known.any(0).sum() == pytest.approx(WIDTH * zoom, abs=2)
        if not options:
            assert set(label[known]) == set(range(1, WIDTH + 1)) and set(depth[known]) == set(range(1, HEIGHT + 1))


@pytest.mark.parametrize('options', [dict(scale=(0.5, 2.0)), dict(max_tilt_deg=20), dict(max_wiggle=0.3)])
def test_samples_stay_consistent_across_modalities(options):
    """What the network sees as x and y in the colours is what the labels say, wherever both are known."""
    for seed in range(10):
        sample = RandomHomography(64, **options)(results(seed))
        known = (sample['gt_seg_map'] != 255) & (sample['img'][..., 2] == 200)
        assert known.mean() > 0.3
        for channel, key in enumerate(('gt_seg_map', 'gt_depth_map')):
            difference = sample['img'][..., channel].astype(int) - sample[key]
            assert np.abs(difference[known]).max() <= 1 and abs(difference[known].mean()) < 0.1


def test_depth_is_divided_by_the_zoom_on_request():
    transform, zooms = RandomHomography(32, scale=(0.5, 2), rescale_depth=True), []
    for seed in range(20):
        zooms.append(transform.sample_view(np.random.default_rng(seed), (HEIGHT, WIDTH))['zoom'])
        assert transform(results(seed))['length_scale'] == pytest.approx(1 / zooms[-1])
    assert 0.5 <= min(zooms) < 0.8 < 1.5 < max(zooms) <= 2
    # A label that the sample lacks is left out.
    unlabelled = {key: value for key, value in results().items() if key != 'gt_depth_map'}
    assert RandomHomography(32, scale=(0.5, 2))(unlabelled)['length_scale'] == 1.0


def test_any_wiggle_below_one_half_gives_a_view_without_a_fold():
    """Corners moved by almost half a side can form a concave shape, whose homography runs through infinity."""
    rng = np.random.default_rng(0)
    pixels = np.stack(np.meshgrid([-0.5, 31.5], [-0.5, 31.5], [1.0])).reshape(3, -1)
    for wiggle in [*rng.uniform(-0.499, 0.499, (500, 4, 2)), 0.499 * np.sign(rng.uniform(-1, 1, (4, 2)))]:
        depths = (crop_to_image((32, 32), (5, 5), wiggle=wiggle) @ pixels)[2]
        assert (depths > 0).all()


@pytest.mark.parametrize(
    'options, name',
    [
        (dict(crop_size=0), 'crop_size'),
        (dict(crop_size=(32, 32, 3)), 'crop_size'),
        (dict(crop_size=32.5), 'crop_size'),
        (dict(crop_size=32, scale=(2, 1)), 'scale'),
        (dict(crop_size=32, scale=(0, 1)), 'scale'),
        (dict(crop_size=32, scale=1.5), 'scale'),
        (dict(crop_size=32, max_tilt_deg=-1), 'max_tilt_deg'),
        (dict(crop_size=32, max_wiggle=0.5), 'max_wiggle'),
        (dict(crop_size=32, flip_prob=1.1), 'flip_prob'),
        (dict(crop_size=32, rescale_depth=True), 'rescale_depth'),
    ],
)
def test_bad_arguments(options, name):
    with pytest.raises(ValueError, match=re.escape(f'`{name}` should be') + '.*Found'):
        RandomHomography(**options)
