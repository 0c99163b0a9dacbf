"""Transforms of a sample against coordinates by hand, PIL and closed forms; those of other libraries on label maps."""

import random
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from mmcv.transforms import RandomFlip
from PIL import Image

from mtl_plugins.datasets.loading.collate import view_collate
from mtl_plugins.datasets.transforms import geometric
from mtl_plugins.datasets.transforms.foreign import OpenMMLabTransform, build_transform
from mtl_plugins.datasets.transforms.formatting import PackViews
from mtl_plugins.datasets.transforms.geometric import RandomHomography, crop_to_image, warp
from mtl_plugins.datasets.transforms.multi_crop import MultiCrop, ResizeCrop, sample_area
from mtl_plugins.errors import ConfigError
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
    homography = cv2.getPerspectiveTransform(np.float32(corners), np.float32(targets))
    y, x = np.mgrid[:height, :width] + 0.5
    u, v, w = np.einsum('ij,jhw->ihw', homography, np.stack([x, y, np.ones_like(x)]))
    return u / w - 0.5, v / w - 0.5


WIGGLE = np.array([[0.1, 0.05], [-0.2, 0.1], [0.02, -0.13], [-0.06, 0.2]])
VIEWS = {
    'crop': dict(offset=(30, 20), zoom=1.0, tilt_deg=0.0, wiggle=None, flip=False),
    'mirrored crop': dict(offset=(30, 20), zoom=1.0, tilt_deg=0.0, wiggle=None, flip=True),
    'zoom in': dict(offset=(30.3, 20.7), zoom=1.7, tilt_deg=0.0, wiggle=None, flip=False),
    'zoom out': dict(offset=(-7.2, 3.1), zoom=0.6, tilt_deg=0.0, wiggle=None, flip=True),
    'tilt': dict(offset=(60.0, 20.0), zoom=1.1, tilt_deg=25.0, wiggle=None, flip=False),
    'all': dict(offset=(50.5, 10.0), zoom=0.9, tilt_deg=-10.0, wiggle=WIGGLE, flip=True),
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
    image = warp(sample['img'], matrix, size, 'bilinear', border=0)
    label = warp(sample['gt_seg_map'], matrix, size, 'nearest', border=255)
    depth = warp(sample['gt_depth_map'], matrix, size, 'nearest', border=0)
    metres = warp(sample['gt_depth_map'].astype(np.float32), matrix, size, 'nearest', border=0)

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
            interpolation = 'bilinear' if key == 'img' else 'nearest'
            np.testing.assert_array_equal(sliced[key], warp(results()[key], matrix, size, interpolation, border))


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


def test_bicubic_zooms_keep_fine_texture():
    noise = np.random.default_rng(0).integers(60, 190, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    contrasts = {}
    for interpolation in ('bilinear', 'bicubic'):
        transform = RandomHomography(64, scale=(0.95, 1.05), interpolation=interpolation)
        views = [transform({**results(seed), 'img': noise})['img'] for seed in range(20)]
        contrasts[interpolation] = np.std(views) / noise.std()
    # Means over shifts: squared weights of the neighbours, 2/3 and 6/7, in each direction.
    assert contrasts['bilinear'] == pytest.approx(2 / 3, abs=0.03) and contrasts['bicubic'] == pytest.approx(6 / 7, abs=0.03)


def test_depth_is_divided_by_the_zoom_on_request():
    transform, zooms = RandomHomography(32, scale=(0.5, 2), rescale_depth=True), []
    for seed in range(20):
        zooms.append(transform.sample_view(np.random.default_rng(seed), (HEIGHT, WIDTH))['zoom'])
        assert transform(results(seed))['length_scale'] == pytest.approx(1 / zooms[-1])
    assert 0.5 <= min(zooms) < 0.8 < 1.5 < max(zooms) <= 2
    unscaled = RandomHomography(32, scale=(0.5, 2))({key: value for key, value in results().items() if key != 'gt_depth_map'})
    assert unscaled['length_scale'] == 1.0 and 'gt_depth_map' not in unscaled


def test_any_wiggle_below_one_half_gives_a_view_without_a_fold():
    """Corners moved by almost half a side can form a concave shape, whose homography runs through infinity."""
    rng = np.random.default_rng(0)
    pixels = np.stack(np.meshgrid([-0.5, 31.5], [-0.5, 31.5], [1.0])).reshape(3, -1)
    for wiggle in [*rng.uniform(-0.499, 0.499, (500, 4, 2)), 0.499 * np.sign(rng.uniform(-1, 1, (4, 2)))]:
        depths = (crop_to_image((32, 32), (5, 5), wiggle=wiggle) @ pixels)[2]
        assert (depths > 0).all()


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


REFUSED = {
    RandomHomography: dict(
        crop_size=[0, (32, 32, 3), 32.5], scale=[(2, 1), (0, 1), 1.5], max_tilt_deg=[-1], max_wiggle=[0.5], flip_prob=[1.1],
        rescale_depth=[True], interpolation=['nearest'],
    ),
    MultiCrop: dict(
        global_size=[0], num_local=[-1], global_scale=[(0.5, 1.2)], local_scale=[(0.4, 0.1)], ratio=[(0, 1)], blur_sigma=[1.0],
        blur=[(1, 1)], solarise=[(0, 2, 0)], flip_prob=[1.5], colour_jitter=[(0.1, 0.1, 0.1), (0.1, 0.1, 0.1, 0.6)],
    ),
    ResizeCrop: dict(size=[0]),
    PackViews: dict(meta_keys=['img_path']),
}  # fmt: skip


@pytest.mark.parametrize(('kind', 'name'), [(kind, name) for kind, arguments in REFUSED.items() for name in arguments])
def test_bad_arguments(kind, name):
    for value in REFUSED[kind][name]:
        with pytest.raises(ValueError, match=f'`{name}`.* Found '):
            kind(**{**(dict(crop_size=32) if kind is RandomHomography else {}), name: value})


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


STEPS = [
    dict(type='mmseg.PhotoMetricDistortion'),
    dict(type='mmseg.RandomRotate', prob=1.0, degree=30),
    dict(type='mmseg.RandomCutOut', prob=1.0, n_holes=3, cutout_shape=(8, 8), seg_fill_in=255),
    dict(type='mmseg.RandomFlip', prob=0.5),
    dict(type='mmseg.RandomCrop', crop_size=(32, 32), cat_max_ratio=0.75),
    dict(type='mmcv.RandomResize', scale=(128, 64), ratio_range=(0.5, 2.0), keep_ratio=True),
    dict(type='mmcv.Pad', size=(80, 160), pad_val=dict(img=0, seg=255)),
    dict(type='torchvision.ColorJitter', brightness=0.4, hue=0.1),
    dict(type='torchvision.RandomAffine', degrees=20, translate=(0.1, 0.1)),
    dict(type='torchvision.GaussianNoise'),
]
MOVING = [step for step in STEPS if step['type'].split('.')[1] in ('RandomRotate', 'RandomCutOut', 'Pad', 'RandomAffine')]


def make_sample(seed=0, **more):
    """Large patches of colour; depth says the same as the classes."""
    rng = np.random.default_rng(0)
    image = cv2.resize(rng.integers(0, 255, (8, 16, 3), dtype=np.uint8), (128, 64))
    classes = cv2.resize(rng.integers(0, 19, (8, 16), dtype=np.uint8), (128, 64), interpolation=cv2.INTER_NEAREST)
    image.flags.writeable = classes.flags.writeable = False
    depth = (classes.astype(np.float32) + 1) * 3
    maps = dict(img=image, gt_seg_map=classes, gt_depth_map=depth, labels=LABELS)
    return {**maps, 'rng': np.random.default_rng(seed), 'ori_shape': (64, 128), **more}


def global_states():
    return np.random.get_state()[1].tobytes(), random.getstate(), torch.get_rng_state().numpy().tobytes()  # noqa: NPY002


@pytest.mark.parametrize('step', STEPS, ids=lambda step: step['type'])
def test_labels_go_with_the_image_beyond_whose_border_they_are_invalid_and_threads_give_what_one_gives(step):
    # mmseg and mmcv fill depth with 255 m or leave it where it was, and draw from global generators.
    transform = build_transform(step)
    before = global_states()
    alone = [transform(make_sample(seed)) for seed in range(8)]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda seed: transform(make_sample(seed)), range(8)))
    for first, second in zip(alone, together, strict=True):
        for key in ('img', 'gt_seg_map', 'gt_depth_map'):
            assert np.array_equal(first[key], second[key])
    assert global_states() == before
    if step['type'] != 'mmcv.Pad':
        assert len({sample['img'].tobytes() for sample in alone}) > 1
    for sample in alone:
        classes, depth = sample['gt_seg_map'], sample['gt_depth_map']
        assert sample['img'].dtype == classes.dtype == np.uint8 and depth.dtype == np.float32
        assert sample['img'].shape[:2] == classes.shape == depth.shape
        assert np.array_equal(depth, np.where(classes == 255, 0, (classes.astype(np.float32) + 1) * 3))
    assert any((sample['gt_seg_map'] == 255).any() for sample in alone) == (step in MOVING)
    if step not in STEPS[4:7]:
        unlabelled = {key: value for key, value in make_sample().items() if not key.startswith('gt_')}
        assert transform(unlabelled)['img'].shape == (64, 128, 3)


def test_images_reach_mmseg_as_bgr_and_a_flip_is_a_flip():
    class Spy:
        def __call__(self, results):
            self.seen = results['img'].copy()
            return RandomFlip(prob=1.0)(results)

    spy, plain = Spy(), make_sample()
    result = OpenMMLabTransform('Spy', spy)(make_sample())
    assert np.array_equal(spy.seen, plain['img'][..., ::-1])
    for key in ('img', 'gt_seg_map', 'gt_depth_map'):
        assert np.array_equal(result[key], plain[key][:, ::-1])


def test_kinds_of_labels_tell_mmseg_what_is_invalid():
    normals = np.ones((64, 128, 3), np.float32)
    invalid = dict(gt_seg_map=255, gt_edges=7, gt_normals=0)
    kinds = {key: SimpleNamespace(key=key, invalid=value, is_class_map=value == 255) for key, value in invalid.items()}
    sample = make_sample(labels=kinds, gt_edges=np.ones((64, 128), np.uint8), gt_normals=normals)
    cut = build_transform(MOVING[1])(sample)
    assert set(np.unique(cut['gt_edges'])) == {1, 7} and set(np.unique(cut['gt_normals'])) == {0, 1}
    with pytest.raises(ValueError, match=r'`mmseg.RandomFlip` should not move the pixels of gt_normals'):
        build_transform(dict(type='mmseg.RandomFlip', prob=1.0))(make_sample(labels=kinds, gt_normals=normals))


@pytest.mark.parametrize(
    ('step', 'message'),
    [
        (dict(type='mmseg.RandomRotFlip', rotate_prob=1.0), 'at the nearest pixel. Found that it interpolates'),
        (dict(type='mmseg.RandomMosaic', prob=1.0), 'A pipeline should not hold RandomMosaic: it needs other samples'),
        (dict(type='mmseg.RGB2Gray'), 'should give a uint8 RGB image. Found float64'),
        (dict(type='mmseg.SegRescale', scale_factor=0.5), 'should move label maps as it moves the image'),
        (dict(type='torchvision.None'), 'should be a transform of torchvision.transforms.v2'),
        (dict(type='torchvision.RandAugment'), 'should take an image and label maps'),
        (dict(type='torchvision.ColorJitter', brightnes=1), 'The arguments of torchvision.ColorJitter should be what it takes'),
        (dict(type='mmseg.RandomFlip', prob=0.5, swap_seg_labels=[(1, 2)]), '`swap_seg_labels` of mmseg.RandomFlip'),
    ],
    ids=lambda value: value['type'] if isinstance(value, dict) else None,
)
def test_what_cannot_work_is_refused_in_one_sentence(step, message):
    with pytest.raises((ValueError, ConfigError), match=message):
        build_transform(step)(make_sample())


def test_a_crop_larger_than_the_images_is_told_once(monkeypatch):
    texts = []
    monkeypatch.setattr(geometric, 'print_log', lambda text, **_: texts.append(text))
    for crop, scale in (((120, 200), (1, 1)), ((150, 300), (1, 2)), ((150, 300), (0.5, 1.4)), (256, (1, 1))):
        transform = RandomHomography(crop_size=crop, scale=scale)
        for _ in range(2):
            transform.transform(results())
    assert [text.partition('--size ')[2][:7] for text in texts] == ['120x200', '120x200']
