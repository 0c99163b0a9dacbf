import warnings
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from mtl_plugins.labels.cityscapes_classes import CLASSES, PALETTE
from mtl_plugins.labels.depth_codec import decode_depth, encode_label
from mtl_plugins.synthetic.coco.scenes import render_picture
from mtl_plugins.synthetic.streets.labels import CAR, ROAD, SIDEWALK, SKY
from mtl_plugins.synthetic.streets.miniscapes_writer import write_miniscapes
from mtl_plugins.synthetic.streets.street_scenes import render_sample
from tests.killing import contents

SIZE = (64, 128)


@pytest.fixture(scope='module')
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_miniscapes(tmp_path_factory.mktemp('synthetic') / 'data', 3, 2, 2, size=SIZE, seed=5, workers=1)


@pytest.fixture(scope='module')
def scenes() -> tuple[np.ndarray, np.ndarray]:
    renderings = [render_sample(0, 'train', index, SIZE) for index in range(120)]
    return np.stack([r.label for r in renderings]), np.stack([r.depth for r in renderings])


def test_files_and_their_formats(root):
    labelled = [('train', 3), ('val', 2), ('grader/test', 2)]
    expected = [f'{split.removeprefix("grader/")}/rgb/{k}.jpg' for split, number in labelled for k in range(number)]
    expected += [f'{split}/{kind}/{k}.png' for split, number in labelled for kind in ('semseg', 'depth') for k in range(number)]
    assert sorted(name for name, content in contents(root).items() if content is not None) == sorted(expected)
    for split, number in labelled:
        for index in range(number):
            image = Image.open(root / split.removeprefix('grader/') / f'rgb/{index}.jpg')
            semseg, depth = (Image.open(root / split / kind / f'{index}.png') for kind in ('semseg', 'depth'))
            assert (image.format, image.mode) == ('JPEG', 'RGB')
            assert (semseg.format, semseg.mode, depth.format, depth.mode) == ('PNG', 'P', 'PNG', 'L')
            assert image.size == semseg.size == depth.size == (SIZE[1], SIZE[0])
            label, code = np.asarray(semseg), np.asarray(depth)
            assert label.max() < 19 and (code[label == SKY] == 0).all()
            assert (code > 0).mean() > 0.4 and np.asarray(image).std() > 10
            assert semseg.getpalette()[: 3 * 19] == [channel for colour in PALETTE for channel in colour]


def test_files_hold_the_rendering(root):
    rendering = render_sample(5, 'val', 1, SIZE)
    image = cv2.imread(str(root / 'val/rgb/1.jpg'))[..., ::-1].astype(int)
    assert np.abs(image - rendering.image).mean() < 8
    np.testing.assert_array_equal(np.asarray(Image.open(root / 'val/semseg/1.png')), rendering.label)
    metres = decode_depth(np.asarray(Image.open(root / 'val/depth/1.png')))
    inside = (rendering.depth >= 4) & (rendering.depth <= 300)
    np.testing.assert_array_equal(metres > 0, inside)
    half_step = (1 / 4 - 1 / 300) / 254 / 2
    assert np.abs(1 / metres[inside] - 1 / rendering.depth[inside]).max() <= half_step * 1.001


def test_tool_gives_the_same_bytes_with_two_workers(root, tmp_path, run_cli):
    out = tmp_path / 'again'
    arguments = [out, '--train', 3, '--val', 2, '--test', 2, '--size', '64x128', '--seed', 5, '--workers', 2]
    run = run_cli('dataset_tools/make_dataset', *arguments)
    assert run.check().out.endswith('again: 3 train, 2 val, 2 test samples of 64x128\n')
    assert contents(out) == contents(root)
    run_cli('dataset_tools/make_dataset', *arguments).check_refused(f'{out} is not empty; choose a new folder, or remove it')
    assert contents(out) == contents(root)
    arguments[0] = tmp_path / 'mine.txt'
    arguments[0].touch()
    run_cli('dataset_tools/make_dataset', *arguments).check_refused('is a file')


@pytest.mark.parametrize('render', [render_sample, render_picture])
def test_images_depend_on_seed_split_and_index(render):
    images = [render(*key, (32, 64)).image for key in ((0, 'train', 0), (0, 'train', 1), (0, 'val', 0), (1, 'train', 0))]
    assert all(not np.array_equal(images[0], other) for other in images[1:])
    np.testing.assert_array_equal(images[0], render(0, 'train', 0, (32, 64)).image)


def test_all_classes_occur_in_a_plausible_order(scenes):
    labels, _ = scenes
    share = dict(zip(CLASSES, np.bincount(labels.ravel(), minlength=19) / labels.size, strict=True))
    images = dict(zip(CLASSES, [(labels == c).any((1, 2)).sum() for c in range(19)], strict=True))
    assert min(images.values()) >= 8, images
    large = [share[name] for name in ('road', 'building', 'vegetation', 'car', 'sky')]
    others = [value for name, value in share.items() if name not in ('road', 'building', 'vegetation', 'car', 'sky', 'sidewalk')]
    assert share['road'] == max(share.values())
    assert min(large) > 2 * max(others)
    assert max(share['rider'], share['motorcycle'], share['bicycle']) < share['person'] < share['sidewalk']


def test_depth_and_label_agree(scenes):
    labels, depths = scenes
    beyond = np.isinf(depths)
    assert (labels[beyond] == SKY).all()
    assert not (labels[~beyond] == SKY).any()
    assert depths.min() > 0.3
    valid = encode_label(depths) > 0
    assert 0.7 < valid.mean() < 0.97
    assert (labels == ROAD)[:, -1].any(1).mean() > 0.7 and (labels == SIDEWALK).any((1, 2)).mean() > 0.8
    assert np.percentile(depths[valid], 1) < 6
    assert np.percentile(depths[valid], 99) > 90


def test_row_and_position_do_not_give_depth_or_class_away(scenes):
    labels, depths = scenes
    log_depth = np.log(np.where(encode_label(depths) > 0, depths, np.nan))
    with warnings.catch_warnings():
        warnings.simplefilter('ignore', RuntimeWarning)  # Rows that only ever show sky.
        per_row = np.nanmedian(log_depth, axis=(0, 2))[None, :, None]
    explained = 1 - np.nanmean((log_depth - per_row) ** 2) / np.nanvar(log_depth)
    assert explained < 0.7
    counts = np.stack([(labels == c).sum(0) for c in range(19)])
    assert counts.max(0).sum() / labels.size < 0.6


def test_colour_does_not_give_the_car_away():
    hues = []
    for index in range(24):
        rendering = render_sample(3, 'train', index, SIZE)
        if (rendering.label == CAR).sum() > 200:
            pixels = rendering.image[rendering.label == CAR].astype(int)
            hues.append(np.argsort(np.median(pixels, 0))[-1])
    assert len(set(hues)) == 3


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (dict(num_train=-1, num_val=0, num_test=0), 'numbers of images'),
        (dict(num_train=0, num_val=0, num_test=0), 'numbers of images'),
        (dict(num_train=1, num_val=0, num_test=0, size=(16, 64)), '`size` should be at least'),
        (dict(num_train=1, num_val=0, num_test=0, seed=-1), '`seed` and `workers`'),
    ],
)
def test_bad_arguments(tmp_path, arguments, message):
    with pytest.raises(ValueError, match=message):
        write_miniscapes(tmp_path / 'out', **arguments)
    assert not (tmp_path / 'out').exists()
