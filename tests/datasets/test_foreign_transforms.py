"""Transforms of mmcv, mmseg and torchvision on a sample with label maps."""

import random
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from mmcv.transforms import RandomFlip

from mtl_plugins.datasets.transforms.foreign import OpenMMLabTransform, build_transform
from mtl_plugins.errors import ConfigError
from tests.fake_miniscapes import LABELS

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


def by_name(step):
    return step['type']


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


@pytest.mark.parametrize('step', STEPS, ids=by_name)
def test_threads_give_what_one_gives_and_no_global_generator_moves(step):
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


@pytest.mark.parametrize('step', STEPS, ids=by_name)
def test_all_labels_go_with_the_image_and_beyond_its_border_they_are_invalid(step):
    # mmseg and mmcv fill depth with 255 m or leave it where it was.
    transform, borders = build_transform(step), []
    for seed in range(4):
        sample = transform(make_sample(seed))
        classes, depth = sample['gt_seg_map'], sample['gt_depth_map']
        assert sample['img'].dtype == classes.dtype == np.uint8 and depth.dtype == np.float32
        assert sample['img'].shape[:2] == classes.shape == depth.shape
        assert np.array_equal(depth, np.where(classes == 255, 0, (classes.astype(np.float32) + 1) * 3))
        borders.append((classes == 255).any())
    assert any(borders) == (step in MOVING)


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


def test_kinds_of_labels_say_what_is_invalid():
    normals = np.ones((64, 128, 3), np.float32)
    kinds = dict(semseg=SimpleNamespace(key='gt_seg_map', invalid=255, is_class_map=True),
                 edges=SimpleNamespace(key='gt_edges', invalid=7, is_class_map=False),
                 normals=SimpleNamespace(key='gt_normals', invalid=0, is_class_map=False))  # fmt: skip
    sample = make_sample(labels=kinds, gt_edges=np.ones((64, 128), np.uint8), gt_normals=normals)
    cut = build_transform(MOVING[1])(sample)
    assert set(np.unique(cut['gt_edges'])) == {1, 7} and set(np.unique(cut['gt_normals'])) == {0, 1}
    with pytest.raises(ValueError, match=r'`mmseg.RandomFlip` should not move the pixels of gt_normals'):
        build_transform(dict(type='mmseg.RandomFlip', prob=1.0))(make_sample(labels=kinds, gt_normals=normals))


def test_images_without_labels_pass():
    for step in STEPS[:4] + STEPS[7:9]:
        sample = {key: value for key, value in make_sample().items() if not key.startswith('gt_')}
        result = build_transform(step)(sample)
        assert result['img'].shape == (64, 128, 3) and not any(key.startswith('gt_') for key in result)


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
