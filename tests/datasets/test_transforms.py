"""Transforms of a sample against coordinates by hand; those of other libraries on label maps."""

import random
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from mmcv.transforms import RandomFlip

from mtl_plugins.datasets.transforms import geometric
from mtl_plugins.datasets.transforms.foreign import OpenMMLabTransform, build_transform
from mtl_plugins.datasets.transforms.formatting import PackViews
from mtl_plugins.datasets.transforms.geometric import RandomHomography, crop_to_image, warp
from mtl_plugins.datasets.transforms.multi_crop import MultiCrop, ResizeCrop
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
