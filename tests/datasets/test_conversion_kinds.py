"""Each data set that can be converted, in the layout of its official download."""

import json
import shutil

import cv2
import numpy as np
import pytest
from PIL import Image

from mtl_plugins.datasets.conversion.converter import convert
from mtl_plugins.datasets.conversion.sources import open_source
from mtl_plugins.datasets.multitask.miniscapes import MiniScapesDataset
from mtl_plugins.labels.cityscapes_classes import CLASSES, PALETTE
from mtl_plugins.labels.surface_normals import encode_normals
from tests.datasets.layouts import (
    BASELINE,
    FOCAL,
    FRAMES,
    TRAIN_IDS,
    write_cityscapes,
    write_nyuv2_arrays,
    write_nyuv2_mat,
)


def run(kind, root, out, splits=None, labels=None, num_classes=None, **options):
    return convert(open_source(kind, root, splits, labels, num_classes=num_classes)[0], out, **options)


def pixels(path) -> np.ndarray:
    return np.array(Image.open(path))


def description(out) -> dict:
    return json.loads((out / 'dataset.json').read_text())


def half_step(depth_range) -> float:
    return (1 / depth_range[0] - 1 / depth_range[1]) / 254 / 2 + 1e-9


def test_cityscapes(tmp_path):
    root, out = write_cityscapes(tmp_path / 'source'), tmp_path / 'out'
    reports = run('cityscapes', root, out)
    semseg, depth = (description(out)['labels'][name] for name in ('semseg', 'depth'))
    assert semseg['classes'] == list(CLASSES) and semseg['palette'] == [list(colour) for colour in PALETTE]
    stem, (nearest, farthest) = FRAMES['train'][2], depth['depth_range']
    disparity = cv2.imread(str(root / f'disparity/train/{stem}_disparity.png'), cv2.IMREAD_UNCHANGED)
    inverse = (disparity.astype(float) - 1) / 256 / (BASELINE * FOCAL)
    codes, inside = pixels(out / 'train/depth/2.png'), (inverse >= 1 / farthest) & (inverse <= 1 / nearest)
    np.testing.assert_array_equal(codes > 0, inside)
    decoded = 1 / farthest + (codes - 1.0) / 254 * (1 / nearest - 1 / farthest)
    assert np.abs(decoded - inverse)[inside].max() <= half_step(depth['depth_range'])
    ids = cv2.imread(str(root / f'gtFine/train/{stem}_gtFine_labelIds.png'), cv2.IMREAD_UNCHANGED)
    np.testing.assert_array_equal(
        pixels(out / 'train/semseg/2.png'), np.vectorize(lambda number: TRAIN_IDS.get(number, 255))(ids)
    )
    assert 0 < reports['train'].lost['depth'] < 1
    # The labels of the official test split say nothing.
    assert not (out / 'grader' / 'test' / 'semseg').exists() and reports['test'].num_labelled == dict(semseg=0, depth=1)
    assert len(MiniScapesDataset(out, 'train')) == 4


def test_cityscapes_without_disparity_and_in_categories(tmp_path):
    root, out = write_cityscapes(tmp_path / 'source'), tmp_path / 'out'
    shutil.rmtree(root / 'disparity')
    reports = run('cityscapes', root, out, dict(train='train', val='val'), num_classes=7, size=(16, 32))
    assert reports['train'].num_labelled == dict(semseg=4, depth=0) and list(description(out)['labels']) == ['semseg']
    dataset = MiniScapesDataset(out, 'val')
    assert list(dataset.labels) == ['semseg'] and len(dataset.metainfo['classes']) == 7
    assert dataset.read_sample(0)['gt_seg_map'].shape == (16, 32)


def test_a_wider_range_than_that_of_the_reader_keeps_more_depth(tmp_path):
    root = write_cityscapes(tmp_path / 'source')
    reports = run('cityscapes', root, tmp_path / 'out', labels=['depth'], depth_range=[0.5, 100_000])
    assert reports['train'].lost.get('depth', 0) < 1 / 1000
    assert list(description(tmp_path / 'out')['labels']) == ['depth']


def test_synscapes(tmp_path):
    pytest.importorskip('OpenEXR')
    from tests.datasets.test_synscapes import DEPTH, KNOWN, write_synscapes

    root, out = write_synscapes(tmp_path / 'source'), tmp_path / 'out'
    reports = run('synscapes', root, out)
    assert [report.num_samples for report in reports.values()] == [3, 2, 2]
    assert reports['val'].lost == dict(depth=3 / (np.isfinite(DEPTH) & (DEPTH > 0)).sum())
    sample = MiniScapesDataset(out, 'val').read_sample(1)
    depth = MiniScapesDataset(out, 'val').labels['depth'].to_values(sample['gt_depth_map']).astype(float)
    np.testing.assert_array_equal(depth > 0, KNOWN > 0)
    assert np.abs(1 / depth[KNOWN > 0] - 1 / KNOWN[KNOWN > 0]).max() <= half_step((4, 300))
    assert (out / 'val' / 'sources.csv').read_text() == 'index,stem\n0,20001\n1,22500\n'
    assert sorted(path.name for path in (out / 'grader' / 'test').iterdir()) == ['depth', 'semseg']


def test_nyuv2_from_the_official_files(tmp_path):
    pytest.importorskip('h5py')
    pytest.importorskip('scipy')
    root, out = tmp_path / 'source', tmp_path / 'out'
    content = write_nyuv2_mat(root)
    reports = run('nyuv2', root, out, num_classes=13)
    # The official test split is there to compare models on, like the validation split of others.
    assert {name: report.num_samples for name, report in reports.items()} == dict(train=4, val=2)
    assert (out / 'val' / 'sources.csv').read_text() == 'index,stem\n0,0001\n1,0004\n'
    labels = description(out)['labels']
    assert len(labels['semseg']['classes']) == 13 and labels['depth']['depth_range'] == [0.5, 10]
    codes = pixels(out / 'val' / 'depth' / '1.png')
    inverse = 0.1 + (codes - 1.0) / 254 * (2 - 0.1)
    assert np.abs(inverse - 1 / content['depths'][3]).max() <= half_step((0.5, 10))


def test_nyuv2_from_arrays(tmp_path):
    root, out = write_nyuv2_arrays(tmp_path / 'source'), tmp_path / 'out'
    reports = run('nyuv2', root, out)
    assert reports['train'].num_labelled == dict(semseg=4, depth=4, normals=4) and list(reports) == ['train', 'val']
    ids = np.load(root / 'train' / 'label' / '2.npy')
    np.testing.assert_array_equal(pixels(out / 'train' / 'semseg' / '2.png'), np.where(ids < 0, 255, ids))
    normals = np.load(root / 'val' / 'normal' / '0.npy') * (1, -1, 1)
    np.testing.assert_array_equal(pixels(out / 'val' / 'normals' / '0.png'), encode_normals(normals.astype(np.float32)))
    assert set(MiniScapesDataset(out, 'val', tasks=('normals',)).read_sample(1)) == {'img', 'gt_normals_map'}
