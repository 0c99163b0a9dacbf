"""COCO as label maps, crops and a smaller COCO, against other decoders and by hand, and one sentence for each bad input."""

import json
import sys

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as pycocotools_mask
from pycocotools.coco import COCO

from mtl_plugins.cli import run
from mtl_plugins.datasets.coco.annotations import CLASSES, decode_counts, pack_segmentation, read_instances, to_mask
from mtl_plugins.datasets.coco.datasets import COCOSubsetDataset, ObjectCropDataset, find_crops
from mtl_plugins.datasets.coco.preparation import find_splits, prepare_coco
from mtl_plugins.datasets.transforms.geometric import ResizeToCover
from mtl_plugins.errors import CorruptFileError, DataError, DataNotFoundError
from mtl_plugins.labels.presets import MINISCAPES_LABELS, build_labels
from mtl_plugins.registry import DATASETS
from mtl_plugins.synthetic.coco.writer import write_coco
from tests.datasets.layouts import expect, orient, with_orientation
from tests.fake_folders import annotation, square, write_fake_coco

# pycocotools 2.0.11 with NumPy 2, in its Python interface, which is an oracle here.
pytestmark = pytest.mark.filterwarnings('ignore:__array__ implementation')

LOAD = [dict(type='LoadCOCOSubset')]
SIZE = (24, 32)


def load_first(root, classes=CLASSES):
    return COCOSubsetDataset(root, classes=classes, pipeline=LOAD)[0]


def label_map(root, annotations):
    return load_first(write_fake_coco(root, annotations))['gt_seg_map']


@pytest.mark.parametrize('share', [0.0, 0.03, 0.5, 1.0])
def test_run_lengths_in_both_forms(share):
    mask = np.random.default_rng(3).random(SIZE) < share
    mask[5:15, 8:25] = share > 0
    compressed = pycocotools_mask.encode(np.asfortranarray(mask.astype(np.uint8)))['counts'].decode()
    for form in (compressed, decode_counts(compressed).tolist()):
        np.testing.assert_array_equal(to_mask(pack_segmentation(dict(size=list(SIZE), counts=form), SIZE), SIZE), mask)
    # Long runs and negative differences of the compressed form.
    counts = [70000, 3, 1, 60000, 9, 2, 500000, 1]
    size = (sum(counts), 1)
    compressed = pycocotools_mask.frPyObjects(dict(size=list(size), counts=counts), *size)['counts'].decode()
    assert decode_counts(compressed).tolist() == counts


def test_label_maps_equal_those_of_cocos_own_tools(tmp_path, capsys):
    root = write_coco(tmp_path / 'coco', 6, 0, size=(48, 64), seed=2)
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


def test_smaller_objects_lie_on_larger_ones_later_on_earlier_and_all_on_crowds(tmp_path):
    crowd = dict(size=list(SIZE), counts=[0, *[12, 12] * 32])  # The upper half.
    objects = [annotation(18, square(5, 5, 6)), annotation(3, crowd, iscrowd=1), annotation(1, square(2, 2, 16))]
    # A crowd of something else is background.
    objects += [annotation(62, dict(size=list(SIZE), counts=[0, 24 * 32]), iscrowd=1)]
    objects += [annotation(1, square(20, 2, 8)), annotation(3, square(24, 2, 8))]
    expected = np.zeros(SIZE, np.uint8)
    expected[:12], expected[2:18, 2:18], expected[5:11, 5:11] = 255, 1, 5
    expected[2:10, 20:24], expected[2:10, 24:] = 1, 2
    np.testing.assert_array_equal(label_map(tmp_path, objects), expected)


def test_images_without_an_object_of_the_classes_are_left_out(tmp_path):
    annotations = [
        annotation(62, square(1, 1, 5), image_id=1),
        annotation(1, square(1, 1, 5), image_id=4),
        annotation(1, dict(size=list(SIZE), counts=[0, 24 * 32]), image_id=2, iscrowd=1),
        annotation(3, square(1, 1, 5), image_id=3),
    ]
    root = write_fake_coco(tmp_path, annotations, sizes=[SIZE] * 5)
    dataset = COCOSubsetDataset(root)
    assert [dataset.get_data_info(k)['img_path'][-6:-4] for k in range(len(dataset))] == ['03', '04']
    assert len(COCOSubsetDataset(root, indices=1)) == 1
    assert len(COCOSubsetDataset(root, classes=['chair'])) == 1
    assert dataset.metainfo['classes'] == ('background', 'person', 'car', 'bicycle', 'cat', 'dog')
    # The published palette of PASCAL VOC.
    palette = [(0, 0, 0), (128, 0, 0), (0, 128, 0), (128, 128, 0), (0, 0, 128), (128, 0, 128)]
    assert [tuple(colour) for colour in dataset.metainfo['palette']] == palette
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
    root = write_fake_coco(tmp_path, [annotation(1, dict(size=list(SIZE), counts=counts))])
    with expect(CorruptFileError, 'annotation 101', root / 'train'):
        load_first(root)


def test_missing_pycocotools(tmp_path, monkeypatch):
    root = write_fake_coco(tmp_path, [annotation(1, square(1, 1, 5))])
    monkeypatch.setitem(sys.modules, 'pycocotools', None)
    with expect(DataError, 'pycocotools is not installed', 'Install the extra `coco`'):
        load_first(root)


def test_missing_damaged_and_other_images(tmp_path):
    root = write_fake_coco(tmp_path, [annotation(1, square(1, 1, 5), image_id=k) for k in (1, 2)], sizes=[SIZE] * 2)
    path = root / 'train' / '000000000001.jpg'
    dataset = COCOSubsetDataset(root, pipeline=LOAD)
    Image.new('RGB', (24, 32)).save(path)
    with expect(CorruptFileError, path, '32x24', 'Found 24x32'):
        dataset[0]
    path.unlink()
    with expect(DataNotFoundError, path, 'does not exist'):
        dataset[0]
    with expect(DataNotFoundError, path, 'does not exist (1 of the 2'):
        COCOSubsetDataset(root)


def test_objects_of_a_photograph_as_it_is_stored(tmp_path):
    """The label turns with the image where the annotations have the size of the file; else it lies upright already."""
    root = write_fake_coco(tmp_path, [annotation(1, square(2, 3, 8)), annotation(18, square(20, 10, 8))])
    stored = load_first(root)['gt_seg_map']
    with_orientation(root / 'train/000000000001.jpg', 6)
    results = load_first(root)
    np.testing.assert_array_equal(results['gt_seg_map'], np.rot90(stored, -1))
    assert results['img'].shape[:2] == results['ori_shape'] == (32, 24)


CROPPED = (60, 80)


@pytest.fixture
def objects(tmp_path):
    """Objects of 40x30, 16x40, crowd, chair, 12x12 half outside; and one of 20x20 in a second image."""
    annotations = [
        annotation(18, [], bbox=(5, 10, 40, 30)),
        annotation(1, [], bbox=(50, 5, 16, 40)),
        annotation(1, dict(size=list(CROPPED), counts=[0, 4800]), bbox=(0, 0, 80, 60), iscrowd=1),
        annotation(62, [], bbox=(0, 0, 50, 50)),
        annotation(3, [], bbox=(74, 20, 12, 12)),
        annotation(17, [], bbox=(10, 10, 20, 20), image_id=2),
    ]
    return write_fake_coco(tmp_path / 'coco', annotations, sizes=[CROPPED, (50, 50)])


@pytest.mark.parametrize('min_size, expected', [(0, [101, 102, 105, 106]), (10, [101, 102, 106]), (17, [101, 106]), (30, [101])])
def test_small_objects_and_crowds_are_left_out(objects, min_size, expected):
    crops = find_crops(read_instances(objects, 'train', CLASSES), 0.1, min_size)
    assert [crop['annotation_id'] for crop in crops] == expected


def test_crops_are_parts_of_the_image(objects):
    dataset = DATASETS.build(dict(type='ObjectCropDataset', data_root=str(objects), margin=0.1, min_size=16))
    assert len(dataset) == 3 and dataset.metainfo['classes'] == ('person', 'car', 'bicycle', 'cat', 'dog')
    samples = [dataset[k] for k in range(3)]
    assert [sample['label'] for sample in samples] == [4, 0, 3]
    assert [sample['sample_idx'] for sample in samples] == [0, 1, 2]
    first, second = (np.array(Image.open(objects / 'train' / f'{k:012d}.jpg')).astype(int) for k in (1, 2))
    expected = [first[7:43, 1:49], first[1:49, 48:68], second[8:32, 8:32]]
    for sample, part in zip(samples, expected, strict=True):
        assert sample['img'].dtype == np.uint8
        assert sample['img'].shape == part.shape and np.abs(sample['img'] - part).max() <= 2


def write_folder(folder, *names):
    for number, name in enumerate(names):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new('RGB', (10 + number, 12), (40 * number, 0, 0)).save(path)


def test_folder_with_a_sub_folder_per_class(tmp_path):
    write_folder(tmp_path / 'crops' / 'val', 'dog/b.jpg', 'dog/a.JPG', 'ant/c.jpeg', 'ant/e.PNG', '.hidden/f.jpg')
    dataset = ObjectCropDataset(tmp_path, 'val', folder='crops')
    assert dataset.metainfo['classes'] == ('ant', 'dog')
    samples = [dataset[k] for k in range(len(dataset))]
    found = [(sample['label'], sample['img_path'].rsplit('/', 1)[1]) for sample in samples]
    assert found == [(0, 'c.jpeg'), (0, 'e.PNG'), (1, 'a.JPG'), (1, 'b.jpg')]
    assert [sample['img'].shape for sample in samples] == [(12, 12, 3), (12, 13, 3), (12, 11, 3), (12, 10, 3)]
    only = ObjectCropDataset(split='val', classes=['dog'], folder=tmp_path / 'crops')
    assert len(only) == 2 and only[0]['label'] == 0
    with expect(ValueError, '`classes` should be folders of', 'ant, dog', "Found 'cat'"):
        ObjectCropDataset(tmp_path, 'val', folder='crops', classes=['dog', 'cat'])


def test_flat_missing_and_empty_folders(tmp_path):
    with expect(DataNotFoundError, tmp_path / 'crops' / 'train', 'does not exist', 'mtl data prepare-coco'):
        ObjectCropDataset(tmp_path, folder='crops')
    write_folder(tmp_path / 'crops' / 'train', 'cat/1.gif')
    with expect(DataNotFoundError, tmp_path / 'crops' / 'train', 'no images'):
        ObjectCropDataset(tmp_path, folder='crops')
    # Without sub-folders nothing is known of the class.
    write_folder(tmp_path / 'flat' / 'train', '2.jpg', '1.jpg')
    dataset = ObjectCropDataset(tmp_path, folder='flat')
    assert [dataset[k]['label'] for k in range(2)] == [-1, -1] and dataset.metainfo['classes'] == ()
    assert dataset[0]['img_path'].endswith('1.jpg')


@pytest.mark.parametrize(
    ('kind', 'options', 'words'),
    [
        (COCOSubsetDataset, dict(classes='person'), ('`classes` should be', 'Found', 'person')),
        (COCOSubsetDataset, dict(classes=['cat', 'cat']), ('`classes` should be', 'Found', ['cat', 'cat'])),
        (COCOSubsetDataset, dict(classes=['cat', 'zebra']), ('`classes` should be', 'bicycle, car, cat, chair', "Found 'zebra'")),
        (COCOSubsetDataset, dict(classes=['bicycle']), ('instances_train.json', 'no object of the classes bicycle')),
        (COCOSubsetDataset, dict(split='val'), ('instances_val.json', 'do not exist', '--data-root', 'mtl data make-coco')),
        (ObjectCropDataset, dict(min_size=41), ('at least 41 pixels', "'train'")),
        (ObjectCropDataset, dict(margin=-0.1), ('`margin` and `min_size` should not be negative. Found',)),
        (ObjectCropDataset, dict(folder='x', min_size=64), ('`margin` and `min_size` should be left out with `folder`',)),
    ],
)
def test_arguments_that_do_not_suit(objects, kind, options, words):
    with expect((ValueError, DataNotFoundError), *words):
        kind(objects, **options)


@pytest.mark.parametrize('orientation', [6, 7])
def test_annotations_of_a_photograph_as_it_is_stored(objects, orientation):
    """Their size tells; objects are upright all the same. They were lying, while inference shows photographs upright."""
    path = objects / 'train/000000000001.jpg'
    plain = [np.array(sample['img']) for sample in ObjectCropDataset(objects, min_size=16)]
    with_orientation(path, orientation)
    turned = [np.array(sample['img']) for sample in ObjectCropDataset(objects, min_size=16)]
    for before, after in zip(plain[:2], turned[:2], strict=True):
        expected = orient(before, orientation).astype(int)
        assert after.shape == expected.shape and np.abs(after - expected).mean() < 12


def test_label_maps_crops_and_annotations_are_those_of_the_original(tmp_path):
    coco, out = write_coco(tmp_path / 'coco', 6, 2, size=(64, 64), seed=1), tmp_path / 'out'
    counts = prepare_coco(coco, out, ['train', 'val'], CLASSES, min_size=12)
    before, after = (COCOSubsetDataset(folder, pipeline=LOAD) for folder in (coco, out))
    assert len(before) == len(after) == counts['train'][0]
    for old, new in zip(before, after, strict=True):
        np.testing.assert_array_equal(old['gt_seg_map'], new['gt_seg_map'])
        np.testing.assert_array_equal(old['img'], new['img'])
    cut = ObjectCropDataset(coco, min_size=12)
    read = ObjectCropDataset(out, folder='crops', classes=CLASSES)
    assert len(cut) == len(read) == counts['train'][1] > 6
    by_id = {int(sample['img_path'][-16:-4]): sample for sample in read}
    for sample in cut:
        other = by_id[sample['annotation_id']]
        assert other['label'] == sample['label'] and other['img'].shape == sample['img'].shape
        assert np.abs(other['img'].astype(int) - sample['img']).mean() < 6
    before, after = (json.loads((folder / 'annotations' / 'instances_train.json').read_text()) for folder in (coco, out))
    assert sorted(entry['name'] for entry in after['categories']) == sorted(CLASSES)
    wanted = {entry['id'] for entry in before['categories'] if entry['name'] in CLASSES}
    assert after['annotations'] == [entry for entry in before['annotations'] if entry['category_id'] in wanted]
    assert len(after['annotations']) < len(before['annotations']) and after['info'] == before['info']
    assert all((out / 'train' / entry['file_name']).is_symlink() for entry in after['images'])


def test_the_command_copies_images_of_the_classes_on_request(tmp_path, capsys):
    annotations = [annotation(1, square(1, 1, 5), image_id=1), annotation(17, square(1, 1, 8), image_id=2)]
    coco, out = write_fake_coco(tmp_path / 'in', annotations, sizes=[SIZE] * 3), tmp_path / 'out'
    write_fake_coco(coco, annotations, sizes=[SIZE] * 3, split='val')
    arguments = [str(coco), str(out)]
    assert run('data prepare-coco', [*arguments, '--classes', 'cat', '--min-size', '4', '--split', 'train', '--copy']) is None
    assert ', 1 images, 1 crops' in capsys.readouterr().out
    (image,) = (out / 'train').iterdir()
    assert image.name == '000000000002.jpg' and not image.is_symlink()
    assert image.read_bytes() == (coco / 'train' / image.name).read_bytes()
    assert [path.name for path in (out / 'crops/train/cat').iterdir()] == ['000000000102.jpg'] and not (out / 'val').exists()
    with pytest.raises(DataError, match='is not an empty folder'):
        run('data prepare-coco', arguments)
    with pytest.raises(ValueError, match=r"`classes` should be names that a folder can have. Found '\.\./x'"):
        prepare_coco(coco, tmp_path / 'other', ['train'], ['../x'])
    with pytest.raises(DataNotFoundError, match='holds no split of COCO'):
        find_splits(tmp_path)
    assert find_splits(coco) == ['train', 'val'] and not (tmp_path / 'other').exists()


def aggregate(root, edit=lambda images: None):
    """Rewrite a folder of `write_fake_coco` to aggregated annotations: objects by category id, images in imgs/<split>2014."""
    path = root / 'annotations/instances_train.json'
    content = json.loads(path.read_text())
    images = [dict(file_name=image['file_name'], annotations={}) for image in content['images']]
    for item in content['annotations']:
        objects = images[item['image_id'] - 1]['annotations'].setdefault(str(item['category_id']), [])
        objects.append(dict(segmentation=item['segmentation']))
    edit(images)
    (root / 'imgs').mkdir()
    (root / 'train').rename(root / 'imgs/train2014')
    path.unlink()
    (root / 'aggregated_annotations_train_5classes.json').write_text(json.dumps(images))
    return root


def test_aggregated_annotations_are_the_same_objects(tmp_path):
    crowd = dict(size=[24, 32], counts=[0, 24, 744])
    annotations = [
        annotation(18, square(2, 2, 8), bbox=(2, 2, 8, 8)),
        annotation(3, square(5, 6, 4), bbox=(5, 6, 4, 4), image_id=2),
        annotation(1, crowd, iscrowd=1, image_id=2),
        annotation(2, [*square(20, 2, 3), *square(25, 4, 6)], bbox=(20, 2, 11, 8), image_id=2),
    ]
    root = write_fake_coco(tmp_path, annotations, sizes=[SIZE, SIZE])

    def objects(images):
        """Of each image by its name, whatever their order."""
        found = {image.file_name: [(o.label, o.segmentation, o.is_crowd or o.box) for o in image.objects] for image in images}
        return {name: sorted(map(str, objects)) for name, objects in found.items()}

    before = objects(read_instances(root, 'train'))
    images = read_instances(aggregate(root), 'train')
    assert objects(images) == before and {image.size for image in images} == {SIZE}
    assert images[0].path == f'{root}/imgs/train2014/{images[0].file_name}'
    counts = prepare_coco(root, tmp_path / 'out', find_splits(root), CLASSES, min_size=1)
    assert counts == {'train': (2, 3)}


@pytest.mark.parametrize(
    ('edit', 'words'),
    [
        (lambda images: images[0].pop('annotations'), r"should list images .* Found a bad entry: KeyError\('annotations'"),
        (lambda images: images[0].update(file_name='none.jpg'), 'An image that .* names cannot be read'),
    ],
)
def test_damaged_aggregated_annotations(tmp_path, edit, words):
    root = aggregate(write_fake_coco(tmp_path, [annotation(18, square(2, 2, 8))]), edit)
    with pytest.raises(DataError, match=words):
        read_instances(root, 'train')
