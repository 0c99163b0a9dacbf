"""Folders as people have them train in place, with a `dataset.json` and nothing else."""

import json

import cv2
import numpy as np
import pytest

from mtl_plugins.datasets.multitask.miniscapes import MiniScapesDataset
from mtl_plugins.errors import ConfigError, SplitNotFoundError

SIZE = (32, 64)
NAMES = ['one', 'two', 'three']
RNG = np.random.default_rng(0)


def _write(path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == '.npy':
        np.save(path, array)
    else:
        cv2.imwrite(str(path), array[..., ::-1] if array.ndim == 3 else array)


def _image():
    return RNG.integers(0, 256, (*SIZE, 3), np.uint8)


def _ids(low, high):
    return RNG.integers(low, high, SIZE, np.uint8)


def grey_from_one(root):
    """Grey ids from 1, 0 unlabelled; images and labels by split, no test split."""
    for split, number in (('train', 4), ('val', 2)):
        for k in range(number):
            _write(root / f'images/{split}/img {k}.png', _image())
            _write(root / f'annotations/{split}/img {k}.png', _ids(0, 4))
    return dict(labels=dict(semseg=dict(type='ClassMap', classes=NAMES, reduce_zero_label=True)))


def millimetres_and_classes(root):
    """One folder for each kind of file, no splits; 16-bit depth in millimetres."""
    for k in range(11):
        _write(root / f'rgb/{k}.png', _image())
        _write(root / f'depth/{k}.png', RNG.integers(500, 5000, SIZE).astype(np.uint16))
        _write(root / f'seg/{k}.png', _ids(0, 3))
    depth = dict(type='DepthMap', path='depth/{stem}.png', encoding='metres', scale=0.001, depth_range=[0.5, 10])
    return dict(
        image='rgb/{stem}.png', labels=dict(semseg=dict(type='ClassMap', path='seg/{stem}.png', classes=NAMES), depth=depth)
    )


def metres_in_arrays(root):
    """Depth alone, as arrays, beside the images of a folder that is called training."""
    for k in range(12):
        _write(root / f'training/{k}_rgb.png', _image())
        _write(root / f'training/{k}_depth.npy', RNG.uniform(1, 9, SIZE).astype(np.float32))
    depth = dict(type='DepthMap', path='{split}/{stem}_depth.npy', encoding='metres', depth_range=[0.5, 10])
    return dict(image='{split}/{stem}_rgb.png', splits=dict(train='training'), val_every=4, labels=dict(depth=depth))


def voc_lists(root):
    """VOC's lists of names, with spaces."""
    for split, number in (('train', 4), ('val', 2)):
        names = [f'{split} {k}' for k in range(number)]
        _write(root / f'JPEGImages/{names[0]}.jpg', _image())
        for name in names:
            _write(root / f'JPEGImages/{name}.jpg', _image())
            _write(root / f'SegmentationClass/{name}.png', np.where(_ids(0, 9) == 0, 255, _ids(0, 3)).astype(np.uint8))
        lists = root / 'ImageSets/Segmentation'
        lists.mkdir(parents=True, exist_ok=True)
        (lists / f'{split}.txt').write_text('\n'.join(names))
    semseg = dict(type='ClassMap', path='SegmentationClass/{stem}.png', classes=NAMES)
    return dict(image='JPEGImages/{stem}.jpg', split_file='ImageSets/Segmentation/{split}.txt', labels=dict(semseg=semseg))


def colours_with_suffixes(root):
    """CamVid's kind: RGB colours, labels named by a suffix, splits with a folder each."""
    colours = np.uint8([[128, 0, 0], [0, 128, 0], [0, 0, 128], [0, 0, 0]])
    for split, number in (('train', 4), ('val', 2)):
        for k in range(number):
            _write(root / f'{split}/{k}.png', _image())
            _write(root / f'{split}_labels/{k}_L.png', colours[_ids(0, 4)])
    semseg = dict(type='ClassMap', path='{split}_labels/{stem}_L.png', classes=NAMES, ignore=[[0, 0, 0]])
    return dict(image='{split}/{stem}.png', labels=dict(semseg=semseg | dict(colours=colours[:3].tolist())))


LAYOUTS = [grey_from_one, millimetres_and_classes, metres_in_arrays, voc_lists, colours_with_suffixes]


@pytest.mark.parametrize('write', LAYOUTS, ids=lambda write: write.__name__)
def test_trains_in_place(tmp_path, run_cli, tiny_config_file, write):
    description = write(tmp_path / 'data')
    (tmp_path / 'data/dataset.json').write_text(json.dumps(description))
    ended = run_cli(
        *('train', tiny_config_file, '--data-root', tmp_path / 'data', '--work-dir', tmp_path / 'run', '--epochs', 1),
        *('--cfg-options', 'log_level=WARNING'),
    ).check()
    assert 'No submission after the training' in ended.out + ended.err
    assert list((tmp_path / 'run').glob('*.pth')) and not list((tmp_path / 'run').glob('*.zip'))


def test_validation_images_by_name(tmp_path):
    description = millimetres_and_classes(tmp_path)
    (tmp_path / 'dataset.json').write_text(json.dumps(description))
    assert MiniScapesDataset(tmp_path, 'val').stems == ['0', '10']
    assert MiniScapesDataset(tmp_path, 'train').stems == [str(k) for k in range(1, 10)]
    with pytest.raises(SplitNotFoundError, match=r'`image` in .* has no \{split\}'):
        MiniScapesDataset(tmp_path, 'test')
    (tmp_path / 'dataset.json').write_text(json.dumps(description | dict(val_every=1)))
    with pytest.raises(ConfigError, match=r'`val_every` .* from 2\. Found 1'):
        MiniScapesDataset(tmp_path, 'val')


@pytest.mark.parametrize('stem', [r'(\d+)+', r'(?:a|\d)*x', '.*.*.*.*', 'a?' * 9, r'(?x)(a+) +', r'(\d+)(?#)*', r'([)]+){9}'])
def test_a_pattern_of_names_that_may_take_forever_is_refused(tmp_path, stem):
    description = millimetres_and_classes(tmp_path)
    (tmp_path / 'dataset.json').write_text(json.dumps(description | dict(stem=stem)))
    with pytest.raises(ConfigError, match='should be a simple regular expression'):
        MiniScapesDataset(tmp_path, 'val')


def test_a_pattern_of_names_chooses_images(tmp_path):
    description = millimetres_and_classes(tmp_path)
    (tmp_path / 'dataset.json').write_text(json.dumps(description | dict(stem=r'(?!0|5)(?:1[)0]|[^)]+)')))
    assert MiniScapesDataset(tmp_path, 'val').stems == ['1']
    assert MiniScapesDataset(tmp_path, 'train').stems == [*'2346789', '10']
