"""The converter: what comes out, read by the data sets, is what was in the original."""

import json
import runpy
import sys
from pathlib import Path

import numpy as np
import pytest

from mtl_plugins.datasets.coco.annotations import CLASSES
from mtl_plugins.datasets.coco.datasets import COCOSubsetDataset, ObjectCropDataset
from mtl_plugins.datasets.coco.preparation import find_splits, prepare_coco
from mtl_plugins.errors import DataError, DataNotFoundError
from mtl_plugins.synthetic.coco.writer import write_coco
from tests.fake_coco import annotation, square, write_fake_coco

TOOL = Path(__file__).resolve().parents[2] / 'tools' / 'dataset_tools' / 'prepare_coco.py'
LOAD = [dict(type='LoadCOCOSubset')]


@pytest.fixture(scope='module')
def root(tmp_path_factory):
    return write_coco(tmp_path_factory.mktemp('coco') / 'data', 6, 2, size=(64, 64), seed=1, progress=False)


@pytest.fixture(scope='module')
def prepared(root, tmp_path_factory):
    out = tmp_path_factory.mktemp('prepared') / 'out'
    return out, prepare_coco(root, out, ['train', 'val'], CLASSES, min_size=12)


def test_label_maps_are_those_of_the_original(root, prepared):
    out, counts = prepared
    before, after = (COCOSubsetDataset(folder, pipeline=LOAD) for folder in (root, out))
    assert len(before) == len(after) == counts['train'][0]
    for old, new in zip(before, after, strict=True):
        np.testing.assert_array_equal(old['gt_seg_map'], new['gt_seg_map'])
        np.testing.assert_array_equal(old['img'], new['img'])


def test_crops_are_those_of_the_original(root, prepared):
    out, counts = prepared
    cut = ObjectCropDataset(root, min_size=12)
    read = ObjectCropDataset(out, folder='crops', classes=CLASSES)
    assert len(cut) == len(read) == counts['train'][1] > 6
    by_id = {int(sample['img_path'][-16:-4]): sample for sample in read}
    for sample in cut:
        other = by_id[sample['annotation_id']]
        assert other['label'] == sample['label'] and other['img'].shape == sample['img'].shape
        assert np.abs(other['img'].astype(int) - sample['img']).mean() < 6


def test_annotations_are_taken_over_as_they_are(root, prepared):
    before, after = (json.loads((folder / 'annotations' / 'instances_train.json').read_text()) for folder in (root, prepared[0]))
    assert sorted(entry['name'] for entry in after['categories']) == sorted(CLASSES)
    wanted = {entry['id'] for entry in before['categories'] if entry['name'] in CLASSES}
    assert after['annotations'] == [entry for entry in before['annotations'] if entry['category_id'] in wanted]
    assert len(after['annotations']) < len(before['annotations']) and after['info'] == before['info']
    assert all((prepared[0] / 'train' / entry['file_name']).is_symlink() for entry in after['images'])


def test_images_without_the_classes_are_left_out_and_the_others_copied_on_request(tmp_path):
    annotations = [annotation(1, square(1, 1, 5), image_id=1), annotation(17, square(1, 1, 8), image_id=2)]
    root = write_fake_coco(tmp_path / 'in', annotations, sizes=[(24, 32)] * 3)
    assert prepare_coco(root, tmp_path / 'out', ['train'], ['cat'], min_size=4, copy=True) == dict(train=(1, 1))
    (image,) = (tmp_path / 'out' / 'train').iterdir()
    assert image.name == '000000000002.jpg' and not image.is_symlink()
    assert image.read_bytes() == (root / 'train' / image.name).read_bytes()
    assert [path.name for path in (tmp_path / 'out' / 'crops' / 'train' / 'cat').iterdir()] == ['000000000102.jpg']


def run(monkeypatch, *arguments):
    monkeypatch.setattr(sys, 'argv', [str(TOOL), *map(str, arguments)])
    return runpy.run_path(str(TOOL))['main']()


def test_tool(root, tmp_path, monkeypatch, capsys):
    assert run(monkeypatch, root, tmp_path / 'out', '--classes', 'dog', '--min-size', '1', '--split', 'val') is None
    num_images, num_crops = (int(word.split()[0]) for word in capsys.readouterr().out.split(', ')[1:])
    assert num_images == len(list((tmp_path / 'out' / 'val').iterdir())) > 0
    assert num_crops == len(list((tmp_path / 'out' / 'crops' / 'val' / 'dog').iterdir())) >= num_images
    assert not (tmp_path / 'out' / 'train').exists()
    with pytest.raises(DataError, match='is not an empty folder'):
        run(monkeypatch, root, tmp_path / 'out')


def test_bad_input(root, tmp_path):
    with pytest.raises(ValueError, match=r"`classes` should be categories of .*: .*chair.*Found 'zebra'"):
        prepare_coco(root, tmp_path / 'out', ['train'], ['zebra'])
    with pytest.raises(ValueError, match=r"`classes` should be names that a folder can have. Found '\.\./x'"):
        prepare_coco(root, tmp_path / 'out', ['train'], ['../x'])
    with pytest.raises(DataNotFoundError, match='no such split'):
        find_splits(tmp_path)
    assert find_splits(root) == ['train', 'val'] and not (tmp_path / 'out').exists()
