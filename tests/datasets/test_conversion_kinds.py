"""Each data set that can be converted, in the layout of its official download: splits, labels, and what is lost."""

import json
import shutil

import numpy as np
import pytest

from mtl_plugins.datasets.cityscapes import CityscapesDataset, SynscapesDataset
from mtl_plugins.datasets.conversion import convert, open_source
from mtl_plugins.datasets.multitask.multitask_dataset import MiniScapesDataset
from mtl_plugins.datasets.nyuv2 import NYUv2Dataset, NYUv2MatDataset
from mtl_plugins.labels.cityscapes_classes import CLASSES, PALETTE
from tests.datasets.layouts import write_cityscapes, write_nyuv2_arrays, write_nyuv2_mat


def run(kind, root, out, splits=None, labels=None, num_classes=None, **options):
    """Convert, and return what became of the splits and the description of the labels."""
    reports = convert(open_source(kind, root, splits, labels, num_classes=num_classes)[0], out, **options)
    return reports, json.loads((out / 'dataset.json').read_text())['labels']


def assert_same(source, out, split):
    """The first labels of a data set are those of the converted split: ids and normals exactly, depth to half a step."""
    converted = MiniScapesDataset(out, split, tasks=tuple(source.labels))
    expected, found = source.read_sample(0), converted.read_sample(0)
    for name, kind in converted.labels.items():
        if name != 'depth':
            np.testing.assert_array_equal(found[kind.key], expected[kind.key])
            continue
        metres, (near, far) = kind.to_values(found[kind.key]).astype(float), kind.depth_range
        known = (expected[kind.key] >= near) & (expected[kind.key] <= far)
        np.testing.assert_array_equal(metres > 0, known)
        assert known.any()
        assert np.abs(1 / metres[known] - 1 / expected[kind.key][known]).max() <= (1 / near - 1 / far) / 254 / 2 + 1e-7


def test_cityscapes(tmp_path):
    root, out = write_cityscapes(tmp_path / 'source'), tmp_path / 'out'
    reports, labels = run('cityscapes', root, out)
    assert labels['semseg']['classes'] == list(CLASSES) and labels['semseg']['palette'] == [list(colour) for colour in PALETTE]
    assert_same(CityscapesDataset(root, 'train'), out, 'train')
    assert 0 < reports['train'].lost['depth'] < 1
    # The labels of the official test split say nothing.
    assert not (out / 'grader' / 'test' / 'semseg').exists() and reports['test'].num_labelled == dict(semseg=0, depth=1)
    assert len(MiniScapesDataset(out, 'train')) == 4


def test_cityscapes_without_disparity_and_in_categories(tmp_path):
    root, out = write_cityscapes(tmp_path / 'source'), tmp_path / 'out'
    # A wider range than that of the reader keeps more depth.
    reports, labels = run('cityscapes', root, tmp_path / 'wide', labels=['depth'], depth_range=[0.5, 100_000])
    assert reports['train'].lost.get('depth', 0) < 1 / 1000 and list(labels) == ['depth']
    shutil.rmtree(root / 'disparity')
    reports, labels = run('cityscapes', root, out, dict(train='train', val='val'), num_classes=7, size=(16, 32))
    assert reports['train'].num_labelled == dict(semseg=4, depth=0) and list(labels) == ['semseg']
    dataset = MiniScapesDataset(out, 'val')
    assert list(dataset.labels) == ['semseg'] and len(dataset.metainfo['classes']) == 7
    assert dataset.read_sample(0)['gt_seg_map'].shape == (16, 32)


def test_synscapes(tmp_path):
    pytest.importorskip('OpenEXR')
    from tests.datasets.test_synscapes import DEPTH, write_synscapes

    root, out = write_synscapes(tmp_path / 'source'), tmp_path / 'out'
    reports, _ = run('synscapes', root, out)
    assert [report.num_samples for report in reports.values()] == [3, 2, 2]
    assert reports['val'].lost == dict(depth=3 / (np.isfinite(DEPTH) & (DEPTH > 0)).sum())
    assert_same(SynscapesDataset(root, 'val'), out, 'val')
    assert (out / 'val' / 'sources.csv').read_text() == 'index,stem\n0,20001\n1,22500\n'
    assert sorted(path.name for path in (out / 'grader' / 'test').iterdir()) == ['depth', 'semseg']


def test_nyuv2_from_the_official_files(tmp_path):
    pytest.importorskip('h5py')
    pytest.importorskip('scipy')
    root, out = tmp_path / 'source', tmp_path / 'out'
    write_nyuv2_mat(root)
    reports, labels = run('nyuv2', root, out, num_classes=13)
    # The official test split is there to compare models on, like the validation split of others.
    assert {name: report.num_samples for name, report in reports.items()} == dict(train=4, val=2)
    assert (out / 'val' / 'sources.csv').read_text() == 'index,stem\n0,0001\n1,0004\n'
    assert len(labels['semseg']['classes']) == 13 and labels['depth']['depth_range'] == [0.5, 10]
    assert_same(NYUv2MatDataset(root, 'test', num_classes=13), out, 'val')


def test_nyuv2_from_arrays(tmp_path):
    root, out = write_nyuv2_arrays(tmp_path / 'source'), tmp_path / 'out'
    reports, _ = run('nyuv2', root, out)
    assert reports['train'].num_labelled == dict(semseg=4, depth=4, normals=4) and list(reports) == ['train', 'val']
    assert_same(NYUv2Dataset(root, 'train'), out, 'train')
    assert set(MiniScapesDataset(out, 'val', tasks=('normals',)).read_sample(1)) == {'img', 'gt_normals_map'}
