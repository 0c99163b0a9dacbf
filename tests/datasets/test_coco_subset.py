"""COCOSubsetDataset: polygons, run lengths, crowds and overlaps against other decoders, and one sentence for each bad input."""

import json
import sys

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as pycocotools_mask
from pycocotools.coco import COCO

from mtl_plugins.datasets.coco.annotations import CLASSES, decode_counts, pack_segmentation, read_instances, to_mask
from mtl_plugins.datasets.coco.datasets import COCOSubsetDataset
from mtl_plugins.datasets.transforms.formatting import LoadCOCOSubset
from mtl_plugins.datasets.transforms.geometric import ResizeToCover
from mtl_plugins.errors import CorruptFileError, DataError, DataNotFoundError
from mtl_plugins.labels.presets import MINISCAPES_LABELS, build_labels
from mtl_plugins.registry import DATASETS
from mtl_plugins.synthetic.coco.writer import write_coco
from tests.datasets.layouts import expect, with_orientation
from tests.fake_coco import annotation, square, write_fake_coco

# pycocotools 2.0.11 with NumPy 2, in its Python interface, which is an oracle here.
pytestmark = pytest.mark.filterwarnings('ignore:__array__ implementation')

LOAD = [dict(type='LoadCOCOSubset')]
SIZE = (24, 32)


def load_first(root, classes=CLASSES):
    """What the dataset would give, without it: mmengine's data sets collect garbage when they are made, which takes long."""
    image = read_instances(root, 'train', classes)[0]
    return LoadCOCOSubset()(dict(img_path=image.path, img_size=image.size, objects=image.objects))


def label_map(root, annotations):
    return load_first(write_fake_coco(root, annotations))['gt_seg_map']


@pytest.mark.parametrize('share', [0.0, 0.03, 0.5, 1.0])
def test_run_lengths_in_both_forms(share):
    mask = np.random.default_rng(3).random(SIZE) < share
    mask[5:15, 8:25] = share > 0
    compressed = pycocotools_mask.encode(np.asfortranarray(mask.astype(np.uint8)))['counts'].decode()
    for form in (compressed, decode_counts(compressed).tolist()):
        np.testing.assert_array_equal(to_mask(pack_segmentation(dict(size=list(SIZE), counts=form), SIZE), SIZE), mask)


def test_long_runs_and_negative_differences_of_the_compressed_form():
    counts = [70000, 3, 1, 60000, 9, 2, 500000, 1]
    size = (sum(counts), 1)
    compressed = pycocotools_mask.frPyObjects(dict(size=list(size), counts=counts), *size)['counts'].decode()
    assert decode_counts(compressed).tolist() == counts


def test_label_maps_equal_those_of_cocos_own_tools(tmp_path, capsys):
    root = write_coco(tmp_path / 'coco', 6, 0, size=(48, 64), seed=2, progress=False)
    classes = ('dog', 'person', 'bicycle', 'cat', 'car')
    dataset = COCOSubsetDataset(root, classes=classes, pipeline=LOAD)
    coco = COCO(root / 'annotations' / 'instances_train.json')
    labels = {coco.getCatIds(catNms=[name])[0]: number for number, name in enumerate(classes, 1)}
    for sample in dataset:
        image_id = int(sample['img_path'][-16:-4])
        found = [entry for entry in coco.loadAnns(coco.getAnnIds([image_id])) if entry['category_id'] in labels]
        expected = np.zeros((48, 64), np.uint8)
        for entry in sorted(found, key=lambda entry: (-entry['iscrowd'], -int(coco.annToMask(entry).sum()))):
            expected[coco.annToMask(entry) > 0] = 255 if entry['iscrowd'] else labels[entry['category_id']]
        np.testing.assert_array_equal(sample['gt_seg_map'], expected)
    assert len(dataset) == 6 and {1, 2, 3, 4, 5, 255} <= {int(v) for sample in dataset for v in np.unique(sample['gt_seg_map'])}


@pytest.mark.parametrize('order', [(0, 1), (1, 0)])
def test_smaller_objects_lie_on_larger_ones_and_later_on_earlier(tmp_path, order):
    annotations = [annotation(1, square(2, 2, 16)), annotation(18, square(5, 5, 6))]
    found = label_map(tmp_path / 'a', [annotations[k] for k in order])
    assert (found == 5).sum() == 36 and (found[5:11, 5:11] == 5).all() and (found == 1).sum() == 256 - 36
    assert label_map(tmp_path / 'b', [annotation(1, square(2, 2, 8)), annotation(3, square(6, 2, 8))])[4, 8] == 2


def test_crowds_are_ignored_where_no_object_lies(tmp_path):
    counts = dict(size=list(SIZE), counts=[0, *[12, 12] * 32])  # The upper half.
    annotations = [annotation(62, counts, iscrowd=1), annotation(1, square(4, 4, 16)), annotation(3, counts, iscrowd=1)]
    found = label_map(tmp_path / 'a', annotations)
    assert found[0, 0] == 255 and found[6, 6] == 1 and found[15, 10] == 1 and found[20, 30] == 0
    assert (found == 255).sum() == 12 * 32 - 8 * 16
    # A crowd of something else is background.
    assert not (label_map(tmp_path / 'b', annotations[:2]) == 255).any()


def test_images_without_an_object_of_the_classes_are_left_out(tmp_path):
    crowd = dict(size=list(SIZE), counts=[0, 24 * 32])
    annotations = [
        annotation(62, square(1, 1, 5), image_id=1),
        annotation(1, square(1, 1, 5), image_id=4),
        annotation(1, crowd, image_id=2, iscrowd=1),
        annotation(3, square(1, 1, 5), image_id=3),
    ]
    root = write_fake_coco(tmp_path, annotations, sizes=[SIZE] * 5)
    dataset = COCOSubsetDataset(root)
    assert [dataset.get_data_info(k)['img_path'][-6:-4] for k in range(len(dataset))] == ['03', '04']
    assert len(COCOSubsetDataset(root, indices=1)) == 1
    assert len(COCOSubsetDataset(root, classes=['chair'])) == 1


def test_registered_with_metainfo(tmp_path):
    root = write_fake_coco(tmp_path, [annotation(1, square(1, 1, 5))])
    dataset = DATASETS.build(dict(type='COCOSubsetDataset', data_root=str(root), lazy_init=True))
    assert dataset.metainfo['classes'] == ('background', 'person', 'car', 'bicycle', 'cat', 'dog')
    palette = [tuple(colour) for colour in dataset.metainfo['palette']]
    # The published palette of PASCAL VOC.
    assert palette == [(0, 0, 0), (128, 0, 0), (0, 128, 0), (128, 128, 0), (0, 0, 128), (128, 0, 128)]
    assert dataset.get_data_info(0)['img_size'] == SIZE and dataset[0]['sample_idx'] == 0


@pytest.mark.parametrize('segmentation', [[], [[]], [[1.0, 2, 3, 4]], [[40.0, 30, 50, 30, 50, 40]]])
def test_outlines_that_cover_nothing(tmp_path, segmentation):
    found = label_map(tmp_path, [annotation(1, segmentation), annotation(3, [[-5.0, -4, 40, -4, 40, 6, -5, 6]])])
    assert (found[:6] == 2).all() and not found[6:].any()


@pytest.mark.parametrize(
    'size, enlarge_only, expected',
    [(48, False, (48, 64)), (12, False, (12, 16)), (12, True, (24, 32)), ((30, 48), True, (36, 48))],
)
def test_resize_to_cover(size, enlarge_only, expected):
    image = np.repeat(np.arange(32, dtype=np.uint8)[None, :, None] * 8, 24, 0).repeat(3, 2)
    results = dict(img=image, gt_seg_map=(image[..., 0] > 128).astype(np.uint8) * 5, ori_shape=SIZE)
    results['labels'] = build_labels(MINISCAPES_LABELS, ['semseg'])
    results = ResizeToCover(size=size, enlarge_only=enlarge_only)(results)
    assert results['img'].shape == (*expected, 3) and results['ori_shape'] == results['gt_seg_map'].shape == expected
    assert set(np.unique(results['gt_seg_map'])) == {0, 5}
    # A ramp stays one, and its upper half keeps its label.
    assert (np.diff(results['img'][3, :, 0].astype(int)) >= 0).all()
    clear = np.abs(results['img'][..., 0].astype(int) - 132) > 12
    np.testing.assert_array_equal(results['gt_seg_map'][clear] > 0, (results['img'][..., 0] > 132)[clear])


@pytest.mark.parametrize(
    ('options', 'error', 'words'),
    [
        (dict(classes='person'), ValueError, ('`classes` should be', 'Found', 'person')),
        (dict(classes=['cat', 'cat']), ValueError, ('`classes` should be', 'Found', ['cat', 'cat'])),
        (dict(classes=['person', 'zebra']), ValueError, ('`classes` should be', 'bicycle, car, cat, chair', "Found 'zebra'")),
        (dict(classes=['cat', 'dog']), DataNotFoundError, ('instances_train.json', 'no object of the classes cat, dog')),
        (dict(split='val'), DataNotFoundError, ('instances_val.json', 'do not exist', '--data-root', 'make_coco.py')),
    ],
)
def test_arguments_that_do_not_suit(tmp_path, options, error, words):
    root = write_fake_coco(tmp_path, [annotation(1, square(1, 1, 5))])
    with expect(error, *words):
        COCOSubsetDataset(root, **options)


@pytest.mark.parametrize(
    'edit, words',
    [
        (lambda content: json.dumps(content)[:-40], ('damaged or no JSON', 'line 1')),
        (lambda content: '[1, 2]', ('should hold a JSON object', 'list')),
        (lambda content: '[' * 100_000, ('damaged',)),
        (lambda content: content.pop('categories') and None, ('format for object instances', 'categories')),
        (lambda content: content['annotations'][0].update(image_id=7), ('format for object instances', '7')),
        (lambda content: content['annotations'].append(5), ('format for object instances',)),
        (lambda content: content['annotations'][0].update(bbox=[1, 2, 3]), ('annotation 101', 'cannot be used')),
        (lambda content: content['annotations'][0].update(segmentation=5), ('format for object instances',)),
        (lambda content: content['annotations'][0].update(segmentation=[['a', 'b']]), ('annotation 101',)),
        (lambda content: content['annotations'][0].update(segmentation=[[1.0] * 7]), ('annotation 101', 'x, y, x, y')),
        # pycocotools would take all memory for the first and much of it for the second.
        (lambda content: content['annotations'][0].update(segmentation=[[1, 2, 3, 4, 5, float('nan')]]), ('101', 'far out')),
        (lambda content: content['annotations'][0].update(segmentation=[[1, 2, 3, 4, 5, 1e9]]), ('101', 'far out')),
        (lambda content: content['annotations'][0].update(segmentation=dict(size=[32, 24], counts=[768])), ('101', '[24, 32]')),
        (lambda content: content['annotations'][0].update(segmentation=dict(size=[24, 32], counts=3)), ('101', 'counts')),
        (lambda content: content['images'][0].update(file_name='../../x.jpg'), ('out of its folder', '../../x.jpg')),
        (lambda content: content['images'][0].update(height=0), ('32x0',)),
    ],
)
def test_damaged_annotations(tmp_path, edit, words):
    path = write_fake_coco(tmp_path, [annotation(1, square(1, 1, 5))]) / 'annotations' / 'instances_train.json'
    content = json.loads(path.read_text())
    result = edit(content)
    path.write_text(result if isinstance(result, str) else json.dumps(content))
    with expect(CorruptFileError, path) as caught:
        COCOSubsetDataset(tmp_path)
    assert all(word in str(caught.value) for word in words)


COMPRESSED = pycocotools_mask.encode(np.asfortranarray(np.eye(24, 32, dtype=np.uint8)))['counts'].decode()


@pytest.mark.parametrize(
    'counts', [[100, 5], [0, 24 * 32 + 1], [-5, 24 * 32 + 5], '', COMPRESSED[:3], COMPRESSED[:10], 'é', '~' * 30]
)
def test_damaged_run_lengths(tmp_path, counts):
    """pycocotools returns memory that nobody wrote for a string that ends early."""
    segmentation = dict(size=list(SIZE), counts=counts)
    root = write_fake_coco(tmp_path, [annotation(1, segmentation)])
    with expect(CorruptFileError, 'annotation 101', root / 'train'):
        load_first(root)


def test_missing_damaged_and_other_images(tmp_path):
    root = write_fake_coco(tmp_path, [annotation(1, square(1, 1, 5), image_id=k) for k in (1, 2)], sizes=[SIZE] * 2)
    path = root / 'train' / '000000000001.jpg'
    dataset, data = COCOSubsetDataset(root, pipeline=LOAD), path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    with expect(CorruptFileError, path, 'truncated'):
        dataset[0]
    Image.new('RGB', (24, 32)).save(path)
    with expect(CorruptFileError, path, '32x24', 'Found 24x32'):
        dataset[0]
    path.unlink()
    with expect(DataNotFoundError, path, 'does not exist'):
        dataset[0]
    with expect(DataNotFoundError, path, 'does not exist (1 of the 2'):
        COCOSubsetDataset(root)


def test_missing_pycocotools(tmp_path, monkeypatch):
    root = write_fake_coco(tmp_path, [annotation(1, square(1, 1, 5))])
    monkeypatch.setitem(sys.modules, 'pycocotools', None)
    with expect(DataError, 'pycocotools is not installed', 'Install the extra `coco`'):
        load_first(root)


def test_objects_of_a_photograph_as_it_is_stored(tmp_path):
    """The label turns with the image where the annotations have the size of the file; else it lies upright already."""
    root = write_fake_coco(tmp_path, [annotation(1, square(2, 3, 8)), annotation(18, square(20, 10, 8))])
    stored = load_first(root)['gt_seg_map']
    path = root / 'train/000000000001.jpg'
    with_orientation(path, 6)
    results = load_first(root)
    np.testing.assert_array_equal(results['gt_seg_map'], np.rot90(stored, -1))
    assert results['img'].shape[:2] == results['ori_shape'] == (32, 24)
