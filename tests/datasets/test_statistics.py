"""Statistics against NumPy over all pixels at once, and the tools that print and pack."""

import json
import time
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from mtl_plugins.datasets.multitask.miniscapes import MultiTaskDataset
from mtl_plugins.datasets.multitask.split_listing import list_miniscapes
from mtl_plugins.datasets.packing.packed import write_packed
from mtl_plugins.datasets.packing.statistics import describe_labels
from mtl_plugins.labels.cityscapes_classes import CLASSES
from mtl_plugins.labels.label_kind import mean_and_std
from mtl_plugins.labels.presets import build_label, miniscapes_labels
from mtl_plugins.models.tasks import SemSegTask
from tests.fake_miniscapes import save_label, write_fake_miniscapes


def test_statistics_tool_equals_numpy_over_all_pixels(tmp_path, run_cli):
    root = write_fake_miniscapes(tmp_path / 'data')
    table = run_cli('dataset_tools/compute_statistics', root, '--json', tmp_path / 'out.json').check().out
    summary = json.loads((tmp_path / 'out.json').read_text())
    files = ('rgb/{}.jpg', 'semseg/{}.png', 'depth/{}.png')
    images, labels, codes = (np.stack([Image.open(root / 'train' / name.format(i)) for i in range(4)]) for name in files)
    assert summary['num_images'] == 4
    # PIL's JPEG decoder may round differently from OpenCV's.
    np.testing.assert_allclose(summary['rgb']['mean'], images.mean((0, 1, 2)), atol=0.2)
    np.testing.assert_allclose(summary['rgb']['std_unit'], images.std((0, 1, 2)) / 255, atol=1e-3)
    metres = 1 / (1 / 300 + (codes[codes > 0].astype(float) - 1) / 254 * (1 / 4 - 1 / 300))
    for name, values in dict(metres=metres, log=np.log(metres), inverse=1 / metres).items():
        np.testing.assert_allclose(summary['depth'][name]['mean'], values.mean(), rtol=1e-12)
        np.testing.assert_allclose(summary['depth'][name]['std'], values.std(), rtol=1e-12)
    assert summary['depth']['invalid_share'] == pytest.approx((codes == 0).mean(), abs=1e-15)
    valid = labels[labels != 255]
    assert list(summary['semseg']['frequencies']) == list(CLASSES)
    shares = np.array(list(summary['semseg']['frequencies'].values()))
    np.testing.assert_allclose(shares, [(valid == c).mean() for c in range(19)], rtol=1e-12)
    assert summary['semseg']['ignored_share'] == pytest.approx((labels == 255).mean(), abs=1e-15)
    weights = 1 / np.log(1.1 + shares)
    assert summary['semseg']['class_weight'] == pytest.approx(weights / (weights * shares).sum(), abs=0.0051)
    assert f'{metres.mean():.6f}' in table and 'semseg, bicycle' in table
    printed = json.loads(table.split('class_weight')[1].split()[0])
    assert SemSegTask(loss=dict(type='UpsampledCrossEntropyLoss', class_weight=printed)).criteria[0].class_weight.shape == (19,)


def test_standard_deviation_of_large_counts_does_not_cancel():
    """Mean of squares minus square of means loses all digits here. Without a pixel there is no mean."""
    assert np.isnan(mean_and_std(np.arange(255), np.zeros(255))).all()
    mean, std = mean_and_std(np.array([1e8, 1e8 + 1]), np.array([10**12, 10**12]))
    assert (mean, std) == (1e8 + 0.5, 0.5)


def write_split(root, labels, **maps):
    """A training split of one image per map, and its description."""
    for name, each in maps.items():
        for folder in (root / 'train/rgb', root / 'train' / name):
            folder.mkdir(parents=True, exist_ok=True)
        for index, values in enumerate(each):
            Image.new('RGB', values.shape[::-1]).save(root / f'train/rgb/{index}.jpg')
            if values.dtype == np.float32:
                np.save(folder / f'{index}.npy', values)
            else:
                save_label(folder / f'{index}.png', values, 'L')
    (root / 'dataset.json').write_text(json.dumps(dict(labels=labels)))
    return root


METRES = dict(type='DepthMap', encoding='metres', path='{split}/depth/{stem}.npy')


def test_metres_are_counted_as_training_reads_them(tmp_path, run_cli):
    """They were counted in codes of 4 .. 300 m: what was nearer or farther was "invalid", and the rest rounded."""
    metres = np.random.default_rng(0).uniform(0.5, 8, (3, 16, 24)).astype(np.float32)
    metres[0, :4] = (0, np.nan, -1, np.inf) * 6
    root = write_split(tmp_path, dict(depth=METRES), depth=metres)
    run_cli('dataset_tools/compute_statistics', root, '--json', tmp_path / 'out.json').check()
    summary = json.loads((tmp_path / 'out.json').read_text())['depth']
    known = metres[np.isfinite(metres) & (metres > 0)].astype(np.float64)
    for name, values in dict(metres=known, log=np.log(known), inverse=1 / known).items():
        assert summary[name] == pytest.approx(dict(mean=values.mean(), std=values.std()), rel=1e-9)
    assert summary['invalid_share'] == pytest.approx(96 / metres.size)


def described(root, **options):
    dataset = MultiTaskDataset(root, labels=miniscapes_labels(root), **options)
    return describe_labels(dataset)


AB, ABC = dict(type='ClassMap', classes=['a', 'b']), dict(type='ClassMap', classes=['a', 'b', 'c'])
FAR = [2000, 2400, 3000, 2400]


@pytest.mark.parametrize(
    ('label', 'values', 'line', 'doubt'),
    [
        (ABC, [0, 0, 1, 2], '3 of 3 classes, a 50 %, b 25 %, c 25 %; 0.0 % ignored', None),
        (AB, [0, 255, 255, 0], '1 of 2 classes, a 100 %; no b; 50.0 % ignored', '`mapping={0: 0, 255: 1}`'),
        (dict(AB, mapping={'0': 0, '255': 1}), [0, 255, 255, 0], '2 of 2 classes', None),
        (ABC, [0, 1, 1, 0], '2 of 3 classes', 'no pixel of c, which cannot be learned'),
        (dict(AB, reduce_zero_label=True), [0, 1, 1, 0], 'no b; 50.0 % ignored', '`reduce_zero_label` makes id 1'),
        (AB, [255] * 4, '0 of 2 classes, none; no a, b; 100.0 % ignored', 'every pixel is ignored.'),
        (dict(AB, mapping={'7': 0, '8': 1}), [0, 1, 1, 0], '100.0 % ignored', 'that `mapping` does not name'),
        (AB, [1] * 4, '1 of 2 classes, b 100 %; no a; 0.0 % ignored', 'every pixel is b or ignored'),
        (METRES, [5, 10, 20, 0], '5 .. 20 m, median 10 m; 25.0 % unknown', None),
        (METRES, FAR, '2000 .. 3007 m, median 2392 m', '100 % of the known depth is beyond `depth_range`'),
        (METRES, FAR, 'median', '`scale`, 1, is the metres per unit of the files, 0.001 for millimetres'),
        (dict(METRES, scale=0.001, depth_range=[0.5, 10]), FAR, '2 .. 3 m, median 2.4 m', None),
        (METRES, [0.2, 0.5, 0.9, 1], 'median', 'beyond `depth_range`, 4 .. 300 m'),
        (METRES, [0, 0, np.nan, 0], '100.0 % unknown', 'no pixel has a known depth'),
        (dict(METRES, within_range=True), FAR, '100.0 % unknown', 'no pixel has a known depth. `scale`, 1'),
        (METRES, [7, 7, 7, 7], 'median', 'every known pixel has the same depth'),
    ],
)
def test_what_a_split_holds(tmp_path, label, values, line, doubt):
    """Such labels trained without a word."""
    name, dtype = ('semseg', np.uint8) if label['type'] == 'ClassMap' else ('depth', np.float32)
    maps = np.array(values, dtype).repeat(64).reshape(1, 16, 16)
    lines, doubts = described(write_split(tmp_path, {name: label}, **{name: maps}))
    assert len(lines) == 1 and lines[0].startswith(f'{name}, in 1 training samples: ') and line in lines[0]
    assert len(doubts) == bool(doubt) and (not doubt or doubt in doubts[0])


def test_codes_are_described_exactly_and_packed_ones_alike(tmp_path):
    codes = np.uint8([0, 1, 255, 255]).repeat(64).reshape(1, 16, 16)
    root = write_split(tmp_path, dict(depth=dict(type='DepthMap', encoding='code', depth_range=[1, 10])), depth=codes)
    found = described(root)
    assert found == (['depth, in 1 training samples: 1 .. 10 m, median 1 m; 25.0 % unknown'], [])
    write_packed(list_miniscapes(root, 'train', ('depth',)))
    assert described(root) == found


def test_directions():
    normals = build_label('normals', dict(type='SurfaceNormals'))
    away = np.full((4, 4, 3), (128, 128, 1), np.uint8)
    assert '`axes` gives z the other sign' in normals.doubts(normals.count(away), True)[0]
    assert normals.doubts(normals.count(np.uint8(0) - away), True) == []


def test_a_large_split_is_sampled_all_over_and_time_is_bounded(tmp_path, monkeypatch):
    """Class b is in the last samples alone; that c is missing is no surprise in a part of them."""
    labels = dict(semseg=dict(type='ClassMap', classes=['a', 'b', 'c']))
    maps = np.zeros((60, 4, 4), np.uint8)
    maps[50:] = 1
    dataset = MultiTaskDataset(write_split(tmp_path, labels, semseg=maps), labels=labels)
    lines, doubts = describe_labels(dataset, max_samples=12)
    assert lines[0].startswith('semseg, in 12 of 60 training samples: 2 of 3 classes') and not doubts
    wrapped = SimpleNamespace(datasets=[SimpleNamespace(dataset=dataset), dataset])
    assert len(describe_labels(wrapped)[0]) == 2 and describe_labels(SimpleNamespace()) == ([], [])
    read = []
    monkeypatch.setattr(dataset, 'read_labels', lambda position: read.append(position) or time.sleep(0.02) or {})
    assert 'none of ' in describe_labels(dataset, seconds=0.1)[1][0] and 1 < len(read) < 12
