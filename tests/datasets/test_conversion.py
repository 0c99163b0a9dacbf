"""Other data sets as folders of MiniScapes' layout: what the files hold, and each official layout that can be converted."""

import json
import re
import shutil

import cv2
import numpy as np
import pytest
from PIL import Image

from mtl_plugins.datasets.cityscapes.cityscapes import CityscapesDataset, SynscapesDataset
from mtl_plugins.datasets.conversion import centre_window, convert, fit_sample, open_source
from mtl_plugins.datasets.multitask.miniscapes import MiniScapesDataset
from mtl_plugins.datasets.multitask.split_listing import list_miniscapes
from mtl_plugins.datasets.nyuv2 import NYUv2Dataset, NYUv2MatDataset
from mtl_plugins.datasets.packing.packed import write_packed
from mtl_plugins.errors import ConfigError, CorruptFileError, DataError, DataNotFoundError
from mtl_plugins.labels.cityscapes_classes import CLASSES as CITYSCAPES
from mtl_plugins.labels.cityscapes_classes import PALETTE
from mtl_plugins.labels.presets import build_labels, miniscapes_labels
from mtl_plugins.labels.surface_normals import encode_normals
from tests.datasets.layouts import save_png, write_cityscapes, write_nyuv2_arrays, write_nyuv2_mat
from tests.datasets.test_cityscapes import DEPTH, write_synscapes
from tests.fake_folders import CLASSES, LABELS, write_fake_folders
from tests.tiny import ROOT

NEAR, FAR = 0.5, 10.0


@pytest.fixture
def root(tmp_path):
    return write_fake_folders(tmp_path / 'source')


def run(root, out, splits=None, labels=None, **options):
    return convert(open_source('folders', root, splits, labels)[0], out, **options)


def pixels(path) -> np.ndarray:
    return np.array(Image.open(path))


def nearest_codes(metres: np.ndarray) -> np.ndarray:
    """The oracle: the code whose disparity is nearest, of all 255; 0 beyond the range."""
    disparities = 1 / FAR + np.arange(255) / 254 * (1 / NEAR - 1 / FAR)
    known = (metres >= NEAR) & (metres <= FAR)
    codes = np.abs(1 / np.where(known, metres, 1)[..., None] - disparities).argmin(-1) + 1
    return np.where(known, codes, 0)


@pytest.mark.parametrize(
    ('shape', 'size', 'window'),
    [
        ((100, 200), (50, 100), (0, 100, 0, 200)),
        ((100, 300), (32, 64), (0, 100, 50, 250)),
        ((301, 200), (64, 64), (50, 250, 0, 200)),
        ((480, 640), (288, 384), (0, 480, 0, 640)),
        ((3, 3), (1, 1000), (1, 2, 0, 3)),
    ],
)
def test_the_largest_centred_window_is_cut_out(shape, size, window):
    rows, columns = centre_window(shape, size)
    assert (rows.start, rows.stop, columns.start, columns.stop) == window


@pytest.mark.parametrize(('length', 'new'), [(64, 16), (63, 21), (100, 37), (1914, 500), (37, 100), (20, 20)])
def test_labels_are_taken_at_the_pixel_nearest_to_the_centre(length, new):
    """OpenCV's plain INTER_NEAREST takes the pixel nearest to the corner instead: half a pixel off, and more when it shrinks."""
    ramp = np.tile(np.arange(length, dtype=np.float32), (length, 1))
    sample = fit_sample(dict(img=np.zeros((length, length, 3), np.uint8), across=ramp, down=ramp.T), (new, new))
    centres = (np.arange(new) + 0.5) * length / new - 0.5
    for taken in (sample['across'][0], sample['down'][:, 0]):
        np.testing.assert_array_less(np.abs(taken - centres), 0.5 + 1e-6)
        assert set(np.diff(taken)) <= {np.floor(length / new), np.ceil(length / new)}


def test_images_shrink_to_the_means_of_areas_aligned_with_their_labels():
    rng = np.random.default_rng(0)
    image, ids = rng.integers(0, 256, (36, 60, 3), dtype=np.uint8), rng.integers(0, 9, (36, 60), dtype=np.uint8)
    sample = fit_sample(dict(img=image, ids=ids), (12, 20))
    means = image.reshape(12, 3, 20, 3, 3).mean((1, 3))
    assert np.abs(sample['img'] - means).max() <= 0.5 + 1e-6
    np.testing.assert_array_equal(sample['ids'], ids[1::3, 1::3])
    assert fit_sample(dict(img=image), None)['img'] is image
    ramp = np.repeat(np.arange(0, 240, 4, dtype=np.uint8)[None, :, None], 36, 0).repeat(3, 2)
    grown = fit_sample(dict(img=ramp), (72, 120))['img'][10, 2:-2, 0].astype(float)
    np.testing.assert_allclose(grown, 4 * ((np.arange(2, 118) + 0.5) / 2 - 0.5), atol=0.51)


def test_files_hold_what_the_source_holds(root, tmp_path):
    reports = run(root, tmp_path / 'out')
    known = lost = 0
    for split, count in (('train', 3), ('val', 2)):
        for index in range(count):
            name, folder = f'{split}/room-{index}', tmp_path / 'out' / split
            label = Image.open(folder / 'semseg' / f'{index}.png')
            assert label.mode == 'P' and len(label.getpalette()) == 3 * 256
            np.testing.assert_array_equal(np.array(label), pixels(root / 'annotations' / f'{name}.png'))
            millimetres = cv2.imread(str(root / 'depth' / f'{name}.png'), cv2.IMREAD_UNCHANGED)
            codes = pixels(folder / 'depth' / f'{index}.png')
            np.testing.assert_array_equal(codes, nearest_codes(millimetres / 1000))
            assert {0, 300, 500, 10_000, 20_000} <= set(millimetres.ravel().tolist())
            image, original = pixels(folder / 'rgb' / f'{index}.jpg'), pixels(root / 'images' / f'{name}.jpg')
            # Noise at quality 95.
            assert np.abs(image.astype(float) - original).mean() < 12
            if split == 'train':
                known += (millimetres > 0).sum()
                lost += ((millimetres > 0) & (codes == 0)).sum()
        rows = [f'{index},room-{index}' for index in range(count)]
        assert (folder / 'sources.csv').read_text().splitlines() == ['index,stem', *rows]
    assert reports['train'].lost == dict(depth=lost / known) and lost > 0
    assert reports['val'].num_samples == 2
    found = miniscapes_labels(tmp_path / 'out' / 'val')
    assert found['semseg']['classes'] == CLASSES and found['depth']['depth_range'] == [NEAR, FAR]
    assert 'missing_labels' not in json.loads((tmp_path / 'out' / 'dataset.json').read_text())


def test_labels_that_samples_or_splits_lack_are_left_out(root, tmp_path):
    (root / 'depth' / 'train' / 'room-1.png').unlink()
    shutil.rmtree(root / 'annotations' / 'val')
    labels = LABELS | dict(normals=dict(type='SurfaceNormals'))
    (root / 'dataset.json').write_text(json.dumps(dict(labels=labels)))
    reports = run(root, tmp_path / 'out')
    assert reports['train'].num_labelled == dict(semseg=3, depth=2, normals=0)
    assert reports['val'].num_labelled == dict(semseg=0, depth=2, normals=0)
    description = json.loads((tmp_path / 'out' / 'dataset.json').read_text())
    assert list(description['labels']) == ['semseg', 'depth'] and description['missing_labels'] == ['semseg', 'depth']
    train, val = (MiniScapesDataset(tmp_path / 'out', split) for split in ('train', 'val'))
    assert 'gt_depth_map' in train.read_sample(0) and sorted(train.read_sample(1)) == ['gt_seg_map', 'img']
    assert sorted(val.read_sample(0)) == ['gt_depth_map', 'img']
    write_packed(list_miniscapes(tmp_path / 'out', 'train'))
    assert not MiniScapesDataset(tmp_path / 'out', 'train').read_sample(1)['gt_depth_map'].any()
    shutil.rmtree(root / 'depth' / 'val')
    with pytest.raises(DataError, match=r"split 'val' of .* has no label for any .* in annotations/\{split\}/\{stem\}.png"):
        run(root, tmp_path / 'other')


def test_the_grader_gets_a_map_for_each_test_image_and_no_label_in_which_nothing_counts(tmp_path):
    root = write_fake_folders(tmp_path / 'source', dict(train=1, test=3))
    (root / 'depth' / 'test' / 'room-1.png').unlink()
    for index in range(3):
        Image.new('L', (80, 48), 255).save(root / 'annotations' / 'test' / f'room-{index}.png')
    reports = run(root, tmp_path / 'out')
    assert sorted(path.name for path in (tmp_path / 'out' / 'test').iterdir()) == ['rgb', 'sources.csv']
    grader = tmp_path / 'out' / 'grader' / 'test'
    assert [path.name for path in grader.iterdir()] == ['depth'] and reports['test'].num_labelled == dict(semseg=0, depth=3)
    assert [pixels(grader / 'depth' / f'{index}.png').any() for index in range(3)] == [True, False, True]
    assert 'missing_labels' not in json.loads((tmp_path / 'out' / 'dataset.json').read_text())


def test_normals_boundaries_and_depth_codes_survive(tmp_path):
    rng = np.random.default_rng(0)
    root = tmp_path / 'source'
    normals = encode_normals(rng.normal(size=(16, 24, 3)).astype(np.float32))
    normals[:2] = 0
    boundary = rng.choice(np.uint8([0, 1, 255]), size=(16, 24))
    codes = np.resize(np.arange(256, dtype=np.uint8), (16, 24))
    for name, array in dict(images=normals, normals=normals, boundary=boundary, depth=codes).items():
        (root / name / 'train').mkdir(parents=True)
        Image.fromarray(array).save(root / name / 'train' / 'x.png')
    kinds = dict(normals='SurfaceNormals', boundary='BoundaryMap', depth='DepthMap')
    (root / 'dataset.json').write_text(json.dumps(dict(labels={name: dict(type=kind) for name, kind in kinds.items()})))
    run(root, tmp_path / 'out')
    for name, array in dict(normals=normals, boundary=boundary, depth=codes).items():
        np.testing.assert_array_equal(pixels(tmp_path / 'out' / 'train' / name / '0.png'), array)
    labels = build_labels(miniscapes_labels(tmp_path / 'out'))
    metres = labels['depth'].to_values(codes)
    run(root, tmp_path / 'near', labels=['depth'], depth_range=[NEAR, FAR])
    np.testing.assert_array_equal(pixels(tmp_path / 'near' / 'train' / 'depth' / '0.png'), nearest_codes(metres))


def test_a_broken_file_and_wrong_options_are_one_sentence_and_leave_nothing(root, tmp_path):
    out = tmp_path / 'new' / 'out'
    broken = root / 'images' / 'train' / 'room-1.jpg'
    broken.write_bytes(broken.read_bytes()[:-999])
    with pytest.raises(CorruptFileError, match=re.escape(str(broken))):
        run(root, out)
    shutil.copy(root / 'images' / 'train' / 'room-0.jpg', broken)
    for options, words in ((dict(size=(0, 4)), 'at least 1x1. Found 0x4'), (dict(depth_range=[3, 2]), 'two ascending')):
        with pytest.raises((ValueError, ConfigError), match=words):
            run(root, out, **options)
    assert list(out.parent.iterdir()) == []


@pytest.mark.parametrize(
    ('options', 'error', 'message'),
    [
        (dict(kind='kitti'), ValueError, r"`kind` should be one of .*'folders'.*Found 'kitti'"),
        (dict(labels=['flow']), ValueError, r"`tasks` should be .*'semseg', 'depth'.* Found \['flow'\]"),
        (dict(splits=dict(train='training')), DataNotFoundError, "has no split 'training'"),
        (dict(root='nowhere'), DataNotFoundError, 'does not exist'),
        (dict(num_classes=7), ConfigError, '`num_classes` of MultiTaskDataset cannot be chosen'),
        (dict(description='{"labels": {}}'), ConfigError, 'should hold `labels`, not empty.* Found no label'),
        (dict(description='{"labels": {"a": {}}, "images": "x"}'), ConfigError, "Found 'images'"),
        (dict(description='{"labels": {"a": {}}, "stem": "("}'), ConfigError, '`stem` in .* should be a regular expression'),
        (dict(description='{"labels": {"a": {}}, "stem": "(a+)+b"}'), ConfigError, '`stem` in .* should be a simple regular'),
        (dict(description='{"labels": {"a": {}}, "stem": "a{99999999999}"}'), ConfigError, '`stem` in .* should be a regular'),
        (dict(description='[]'), CorruptFileError, 'It should be an object'),
        (dict(description=None), DataNotFoundError, r'should describe the labels, as in .*"classes"'),
    ],
)
def test_sources_that_cannot_be_opened(root, options, error, message):
    arguments = dict(kind='folders', root=root) | options
    if 'description' in arguments:
        content = arguments.pop('description')
        (root / 'dataset.json').unlink()
        if content is not None:
            (root / 'dataset.json').write_text(content)
    with pytest.raises(error, match=message):
        open_source(**arguments)


def test_the_labels_in_colours_of_the_document_are_converted_packed_and_read(tmp_path):
    root = tmp_path / 'data'
    document = (ROOT / 'docs/data_format.md').read_text()
    description = json.loads(re.search(r'```json\n(.*?)```', document, re.DOTALL)[1])
    assert len(description['labels']['semseg']['colours']) == 3
    colours = np.uint8([[128, 128, 128], [128, 0, 0], [64, 192, 0], [128, 64, 128], [0, 0, 0], [64, 0, 64]])
    picked = np.random.default_rng(0).integers(0, 6, (16, 24))
    expected = np.uint8([0, 1, 1, 2, 255, 255])[picked]
    millimetres = np.where(picked == 5, 65535, 1000 + 100 * picked).astype(np.uint16)
    for name, array in dict(semseg=colours[picked], depth=millimetres).items():
        save_png(root / f'train/{name}/0.png', array)
    save_png(root / 'train/rgb/0.jpg', np.zeros((16, 24, 3), np.uint8))
    (root / 'dataset.json').write_text(json.dumps(description))
    write_packed(list_miniscapes(root, 'train'))
    for config in description['labels'].values():
        config['path'] = '{split}/{name}/{stem}.png'
    (tmp_path / 'folders.json').write_text(json.dumps(dict(description, image='{split}/rgb/{stem}.jpg')))
    convert(open_source('folders', root, labels_file=tmp_path / 'folders.json')[0], tmp_path / 'out')
    places = ((root, False), (root, True), (tmp_path / 'out', False))
    files, packed, converted = (MiniScapesDataset(place, 'train', use_packed=use) for place, use in places)
    assert packed.packed is not None
    for dataset in (files, packed, converted):
        sample = dataset.read_sample(0)
        np.testing.assert_array_equal(sample['gt_seg_map'], expected)
        metres = dataset.labels['depth'].to_values(sample['gt_depth_map'])
        np.testing.assert_allclose(metres, np.where(picked == 5, 0, 1 + 0.1 * picked), rtol=0.02)
    save_png(root / 'train/semseg/0.png', colours[picked] + np.uint8(1))
    with pytest.raises(CorruptFileError, match='should hold the colours in `colours` and `ignore` of semseg'):
        MiniScapesDataset(root, 'train', use_packed=False).read_sample(0)


def convert_kind(kind, root, out, splits=None, labels=None, num_classes=None, **options):
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
    root, wide, out = write_cityscapes(tmp_path / 'source'), tmp_path / 'wide', tmp_path / 'out'
    # A wider range than that of the reader keeps more depth. The labels of the official test split say nothing.
    reports, labels = convert_kind('cityscapes', root, wide, depth_range=[0.5, 100_000])
    assert labels['semseg']['classes'] == list(CITYSCAPES) and labels['semseg']['palette'] == [list(colour) for colour in PALETTE]
    assert reports['train'].lost.get('depth', 0) < 1 / 1000 and reports['test'].num_labelled == dict(semseg=0, depth=1)
    assert not (wide / 'grader' / 'test' / 'semseg').exists()
    assert_same(CityscapesDataset(root, 'train', tasks=('semseg',)), wide, 'train')
    shutil.rmtree(root / 'disparity')
    reports, labels = convert_kind('cityscapes', root, out, dict(train='train', val='val'), num_classes=7, size=(16, 32))
    assert reports['train'].num_labelled == dict(semseg=4, depth=0) and list(labels) == ['semseg']
    dataset = MiniScapesDataset(out, 'val')
    assert list(dataset.labels) == ['semseg'] and len(dataset.metainfo['classes']) == 7
    assert dataset.read_sample(0)['gt_seg_map'].shape == (16, 32)


def test_synscapes(tmp_path):
    pytest.importorskip('OpenEXR')
    root, out = write_synscapes(tmp_path / 'source'), tmp_path / 'out'
    reports, _ = convert_kind('synscapes', root, out)
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
    reports, labels = convert_kind('nyuv2', root, out, num_classes=13)
    # The official test split is there to compare models on, like the validation split of others.
    assert {name: report.num_samples for name, report in reports.items()} == dict(train=4, val=2)
    assert (out / 'val' / 'sources.csv').read_text() == 'index,stem\n0,0001\n1,0004\n'
    assert len(labels['semseg']['classes']) == 13 and labels['depth']['depth_range'] == [0.5, 10]
    assert_same(NYUv2MatDataset(root, 'test', num_classes=13), out, 'val')


def test_nyuv2_from_arrays(tmp_path):
    root, out = write_nyuv2_arrays(tmp_path / 'source'), tmp_path / 'out'
    reports, _ = convert_kind('nyuv2', root, out)
    assert reports['train'].num_labelled == dict(semseg=4, depth=4, normals=4) and list(reports) == ['train', 'val']
    assert_same(NYUv2Dataset(root, 'train'), out, 'train')
    assert set(MiniScapesDataset(out, 'val', tasks=('normals',)).read_sample(1)) == {'img', 'gt_normals_map'}
