"""ObjectCropDataset: boxes cut as computed by hand, folders of crops, and one sentence for each bad input."""

import numpy as np
import pytest
from PIL import Image

from mtl_plugins.datasets.coco.annotations import CLASSES, read_instances
from mtl_plugins.datasets.coco.datasets import ObjectCropDataset, find_crops
from mtl_plugins.errors import DataNotFoundError
from mtl_plugins.registry import DATASETS
from tests.datasets.layouts import expect, orient, with_orientation
from tests.fake_coco import annotation, write_fake_coco

SIZE = (60, 80)


@pytest.fixture
def root(tmp_path):
    """Objects of 40x30, 16x40, crowd, chair, 12x12 half outside; and one of 20x20 in a second image."""
    annotations = [
        annotation(18, [], bbox=(5, 10, 40, 30)),
        annotation(1, [], bbox=(50, 5, 16, 40)),
        annotation(1, dict(size=list(SIZE), counts=[0, 4800]), bbox=(0, 0, 80, 60), iscrowd=1),
        annotation(62, [], bbox=(0, 0, 50, 50)),
        annotation(3, [], bbox=(74, 20, 12, 12)),
        annotation(17, [], bbox=(10, 10, 20, 20), image_id=2),
    ]
    return write_fake_coco(tmp_path / 'coco', annotations, sizes=[SIZE, (50, 50)])


@pytest.mark.parametrize('min_size, expected', [(0, [101, 102, 105, 106]), (10, [101, 102, 106]), (17, [101, 106]), (30, [101])])
def test_small_objects_and_crowds_are_left_out(root, min_size, expected):
    crops = find_crops(read_instances(root, 'train', CLASSES), 0.1, min_size)
    assert [crop['annotation_id'] for crop in crops] == expected


def test_crops_are_parts_of_the_image(root):
    dataset = DATASETS.build(dict(type='ObjectCropDataset', data_root=str(root), margin=0.1, min_size=16))
    assert len(dataset) == 3 and dataset.metainfo['classes'] == ('person', 'car', 'bicycle', 'cat', 'dog')
    samples = [dataset[k] for k in range(3)]
    assert [sample['label'] for sample in samples] == [4, 0, 3]
    assert [sample['sample_idx'] for sample in samples] == [0, 1, 2]
    first, second = (np.array(Image.open(root / 'train' / f'{k:012d}.jpg')).astype(int) for k in (1, 2))
    expected = [first[7:43, 1:49], first[1:49, 48:68], second[8:32, 8:32]]
    for sample, part in zip(samples, expected, strict=True):
        assert sample['img'].dtype == np.uint8
        assert sample['img'].shape == part.shape and np.abs(sample['img'] - part).max() <= 2


def write_folder(folder, names):
    for number, name in enumerate(names):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new('RGB', (10 + number, 12), (40 * number, 0, 0)).save(path)


def test_folder_with_a_sub_folder_per_class(tmp_path):
    write_folder(tmp_path / 'crops' / 'val', ['dog/b.jpg', 'dog/a.JPG', 'ant/c.jpeg', 'ant/e.PNG'])
    write_folder(tmp_path / 'crops' / 'val', ['.hidden/f.jpg'])
    dataset = ObjectCropDataset(tmp_path, 'val', folder='crops')
    assert dataset.metainfo['classes'] == ('ant', 'dog')
    samples = [dataset[k] for k in range(len(dataset))]
    assert [(sample['label'], sample['img_path'].rsplit('/', 1)[1]) for sample in samples] == [
        (0, 'c.jpeg'),
        (0, 'e.PNG'),
        (1, 'a.JPG'),
        (1, 'b.jpg'),
    ]
    assert [sample['img'].shape for sample in samples] == [(12, 12, 3), (12, 13, 3), (12, 11, 3), (12, 10, 3)]
    only = ObjectCropDataset(split='val', classes=['dog'], folder=tmp_path / 'crops')
    assert len(only) == 2 and only[0]['label'] == 0
    with expect(ValueError, '`classes` should be folders of', 'ant, dog', "Found 'cat'"):
        ObjectCropDataset(tmp_path, 'val', folder='crops', classes=['dog', 'cat'])


def test_flat_folder_has_no_labels(tmp_path):
    write_folder(tmp_path / 'crops' / 'train', ['2.jpg', '1.jpg'])
    dataset = ObjectCropDataset(tmp_path, folder='crops')
    assert [dataset[k]['label'] for k in range(2)] == [-1, -1] and dataset.metainfo['classes'] == ()
    assert dataset[0]['img_path'].endswith('1.jpg')


def test_missing_and_empty_folders(tmp_path):
    with expect(DataNotFoundError, tmp_path / 'crops' / 'train', 'does not exist', 'prepare_coco.py'):
        ObjectCropDataset(tmp_path, folder='crops')
    write_folder(tmp_path / 'crops' / 'train', ['cat/1.gif'])
    with expect(DataNotFoundError, tmp_path / 'crops' / 'train', 'no images'):
        ObjectCropDataset(tmp_path, folder='crops')


@pytest.mark.parametrize(
    ('options', 'words'),
    [
        (dict(min_size=41), ('at least 41 pixels', "'train'")),
        (dict(margin=-0.1), ('`margin` and `min_size` should not be negative. Found',)),
        (dict(min_size=-1), ('`margin` and `min_size` should not be negative. Found',)),
        (dict(folder='crops', margin=0.2), ('`margin` and `min_size` should be left out with `folder`',)),
        (dict(folder='crops', min_size=64), ('`margin` and `min_size` should be left out with `folder`',)),
    ],
)
def test_arguments_that_do_not_suit(root, options, words):
    with expect((ValueError, DataNotFoundError), *words):
        ObjectCropDataset(root, **options)


@pytest.mark.parametrize('orientation', [6, 7])
def test_annotations_of_a_photograph_as_it_is_stored(root, orientation):
    """Their size tells; objects are upright all the same. They were lying, while inference shows photographs upright."""
    path = root / 'train/000000000001.jpg'
    plain = [np.array(sample['img']) for sample in ObjectCropDataset(root, min_size=16)]
    with_orientation(path, orientation)
    turned = [np.array(sample['img']) for sample in ObjectCropDataset(root, min_size=16)]
    for before, after in zip(plain[:2], turned[:2], strict=True):
        expected = orient(before, orientation).astype(int)
        assert after.shape == expected.shape and np.abs(after - expected).mean() < 12
