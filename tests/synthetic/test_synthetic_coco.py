"""The generated COCO: real format, right masks, the same files every time, and classes that shape tells and colour does not."""

import json

import cv2
import numpy as np
import pytest
from PIL import Image
from pycocotools.coco import COCO

from mtl_plugins.synthetic.coco.scenes import CATEGORIES, OVERSAMPLING, render_picture
from mtl_plugins.synthetic.coco.writer import write_coco
from tests.killing import contents

SIZE = (64, 80)
CLASSES = ('person', 'bicycle', 'car', 'cat', 'dog')

pytestmark = pytest.mark.filterwarnings('ignore:__array__ implementation')


@pytest.fixture(scope='module')
def root(tmp_path_factory):
    return write_coco(tmp_path_factory.mktemp('coco') / 'data', 24, 2, size=SIZE, seed=4)


@pytest.fixture(scope='module')
def content(root):
    return json.loads((root / 'annotations' / 'instances_train.json').read_text())


@pytest.fixture(scope='module')
def objects():
    """Class, colours and 16x16 silhouette of the objects of 90 pictures that are seen in full or nearly so."""
    found = []
    for index in range(90):
        picture = render_picture(0, 'train', index, SIZE)
        for item in picture.objects:
            mask = cv2.resize(item.mask.astype(np.uint8), SIZE[::-1], interpolation=cv2.INTER_AREA) > 0
            if item.category.name in CLASSES and not item.is_crowd and mask.sum() > 150:
                x, y, width, height = cv2.boundingRect(mask.astype(np.uint8))
                shape = cv2.resize(mask[y : y + height, x : x + width].astype(np.float32), (16, 16), interpolation=cv2.INTER_AREA)
                shape = np.concatenate([(shape - 0.5).ravel(), [3 * np.log(width / height)]])
                found.append((CLASSES.index(item.category.name), picture.image[mask].mean(0) / 50, shape))
    return [np.array(column) for column in zip(*found, strict=True)]


def test_cocos_own_tools_read_it(root, content, capsys):
    coco = COCO(root / 'annotations' / 'instances_train.json')
    names = {entry['id']: entry['name'] for entry in coco.loadCats(coco.getCatIds())}
    assert {1: 'person', 2: 'bicycle', 3: 'car', 17: 'cat', 18: 'dog', 62: 'chair'}.items() <= names.items()
    assert len(coco.getImgIds()) == 24 and len({entry['id'] for entry in content['annotations']}) == len(content['annotations'])
    for entry in content['images']:
        assert Image.open(root / 'train' / entry['file_name']).size == (entry['width'], entry['height']) == (SIZE[1], SIZE[0])
    for entry in content['annotations']:
        mask = coco.annToMask(entry)
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        x, y, width, height = entry['bbox']
        assert (x, y, x + width, y + height) == (columns[0], rows[0], columns[-1] + 1, rows[-1] + 1)
        assert mask.shape == SIZE and mask.sum() == entry['area']


def test_all_forms_of_outlines_occur(content):
    kinds = dict(polygon=0, compressed=0, crowd=0)
    for entry in content['annotations']:
        outline = entry['segmentation']
        if isinstance(outline, list):
            kinds['polygon'] += 1
            assert not entry['iscrowd'] and all(len(polygon) >= 6 and len(polygon) % 2 == 0 for polygon in outline)
        elif isinstance(outline['counts'], str):
            kinds['compressed'] += 1
            assert not entry['iscrowd']
        else:
            kinds['crowd'] += 1
            assert entry['iscrowd'] and sum(outline['counts']) == SIZE[0] * SIZE[1]
    total = sum(kinds.values())
    assert kinds['polygon'] > total / 2 and kinds['compressed'] > 0 and 0.02 < kinds['crowd'] / total < 0.2


def test_annotations_cover_what_was_rendered(root):
    coco = COCO(root / 'annotations' / 'instances_train.json')
    for index in range(8):
        picture = render_picture(4, 'train', index, SIZE)
        entries = coco.loadAnns(coco.getAnnIds([index + 1]))
        assert [entry['category_id'] for entry in entries] == [item.category.id for item in picture.objects]
        for entry, item in zip(entries, picture.objects, strict=True):
            fine = item.mask.reshape(SIZE[0], OVERSAMPLING, SIZE[1], OVERSAMPLING).mean((1, 3))
            mask = coco.annToMask(entry)
            # A hole of a few pixels may be filled, and an end of a pixel's width cut off.
            assert (mask[fine == 1] == 1).mean() > 0.97 and (mask[fine == 0] == 0).mean() > 0.99
        written = np.array(Image.open(root / 'train' / f'{index + 1:012d}.jpg')).astype(int)
        assert np.abs(written - picture.image).mean() < 8


def test_every_category_is_drawn_within_its_unit():
    rng = np.random.default_rng(0)
    for category in CATEGORIES:
        for _ in range(20):
            points = np.concatenate([contour for part in category.draw(rng) for contour in part.contours])
            assert np.abs(points[:, 0]).max() < 0.9 and -1.35 < points[:, 1].min() < -0.3 and np.abs(points[:, 1].max()) < 0.06


def nearest_class(labels, values):
    """Share of objects whose nearest neighbour, of all the others, is of the same class."""
    lengths = np.square(values).sum(1)
    distances = lengths[:, None] + lengths - 2 * values @ values.T
    np.fill_diagonal(distances, np.inf)
    return (labels[distances.argmin(1)] == labels).mean()


def test_shape_tells_the_class_and_colour_does_not(objects):
    labels, colours, shapes = objects
    counts = np.bincount(labels, minlength=5)
    assert counts.min() > 0.6 * counts.max() and len(labels) > 150
    assert nearest_class(labels, colours) < 0.35
    assert nearest_class(labels, shapes) > 0.6


def test_tool_gives_the_same_bytes_with_two_workers(root, tmp_path, run_cli):
    arguments = [tmp_path / 'again', '--train', 24, '--val', 2, '--size', '64x80', '--seed', 4, '--workers', 2]
    assert run_cli('dataset_tools/make_coco', *arguments).check().out.endswith('again: 24 train, 2 val images of 64x80\n')
    assert contents(tmp_path / 'again') == contents(root)
