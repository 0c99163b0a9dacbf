"""MiniScapesDataset: what it finds, what it yields, and one clear sentence for each kind of bad input."""

import json
import shutil

import numpy as np
import pytest
from PIL import Image

from mtl_plugins.apis.inference.sources import Frame, read_frames
from mtl_plugins.datasets.loading.labelled_dataset import SampleKey
from mtl_plugins.datasets.multitask.miniscapes import MiniScapesDataset, MultiTaskDataset
from mtl_plugins.datasets.multitask.split_listing import list_miniscapes
from mtl_plugins.datasets.packing.packed import write_packed
from mtl_plugins.errors import CorruptFileError, DataError, DataNotFoundError
from mtl_plugins.labels.presets import MINISCAPES_LABELS, miniscapes_labels
from mtl_plugins.labels.surface_normals import decode_normals
from mtl_plugins.submission import find_image_sizes
from tests.datasets.layouts import expect, orient, with_orientation
from tests.fake_miniscapes import write_fake_miniscapes

LOAD = [dict(type='LoadMiniScapes')]


@pytest.fixture
def root(tmp_path):
    return write_fake_miniscapes(tmp_path / 'data')


def test_arrays_equal_those_of_pil(root):
    for index, sample in enumerate(MiniScapesDataset(root, 'train', pipeline=LOAD)):
        files = dict(img=f'rgb/{index}.jpg', gt_seg_map=f'semseg/{index}.png', gt_depth_map=f'depth/{index}.png')
        for key, name in files.items():
            expected = np.array(Image.open(root / 'train' / name)).astype(int)
            # Two JPEG decoders may round the colour conversion differently.
            assert np.abs(sample[key] - expected).max() <= 2 * (key == 'img') and sample[key].dtype == np.uint8
        assert sample['ori_shape'] == (64, 96) and sample['length_scale'] == 1.0 and sample['sample_idx'] == index
    assert index == 3


def test_random_numbers_depend_on_the_key_alone(root):
    dataset = MiniScapesDataset(root, 'train', pipeline=[lambda results: results['rng'].random()])
    assert dataset[SampleKey(1, 2, 3)] == dataset[SampleKey(1, 2, 3)] == SampleKey(1, 2, 3).rng().random()
    draws = [dataset[SampleKey(i, e, s)] for i in range(3) for e in range(3) for s in range(3)]
    assert len(set(draws)) == 27
    assert dataset[-1] == dataset[3] == dataset[SampleKey(3)]


@pytest.mark.parametrize(
    ('gone', 'options', 'words'),
    [
        (None, dict(split='extra'), ("no split 'extra'", 'mtl data make OUT')),
        ('val/semseg/*', dict(split='val'), ('val/semseg',)),
        (None, dict(tasks='semseg'), ('`tasks` should be', 'Found', 'semseg')),
        (None, dict(tasks=('semseg', 'flow')), ('`tasks` should be', 'Found', ('semseg', 'flow'))),
        (None, dict(tasks=('depth', 'depth')), ('`tasks` should be', 'Found', ('depth', 'depth'))),
        (None, dict(stem='.+', split_file='split.txt'), ('`stem` should be left out with `split_file`',)),
        # Neither UTF-8 nor UTF-16.
        (None, dict(split_file='bytes.txt'), ("bytes.txt' should be text in UTF-8",)),
        (None, dict(split_file='split.txt'), ("train/rgb/frame7.jpg' does not exist (1 of 2 are missing)",)),
    ],
)
def test_data_and_arguments_that_do_not_fit_are_one_sentence(root, gone, options, words):
    for path in root.glob(gone) if gone else ():
        path.unlink()
    (root / 'split.txt').write_text('0\nframe7\n')
    (root / 'bytes.txt').write_bytes(b'\xff\xfe\x00')
    with expect((ValueError, DataNotFoundError), *words):
        MiniScapesDataset(**{'data_root': root, **options})


def load_broken(root, path, message):
    dataset = MiniScapesDataset(root, 'train', pipeline=LOAD)
    with expect(CorruptFileError, path, message):
        dataset[0]


@pytest.mark.parametrize('name', ['rgb/0.jpg', 'semseg/0.png', 'depth/0.png'])
@pytest.mark.parametrize('share', [0.0, 0.001, 0.3, 0.7, 0.95, 0.999])
def test_truncated_file(root, name, share):
    """OpenCV 4 fills the missing rows of a truncated JPEG with grey and says nothing."""
    path = root / 'train' / name
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    load_broken(root, path, '')


def test_truncated_jpeg_with_a_thumbnail(root):
    """The end marker of an embedded thumbnail is not the end of the image."""
    path = root / 'train' / 'rgb' / '0.jpg'
    data = path.read_bytes()
    application_data = b'\xff\xe1' + (len(data) + 2).to_bytes(2, 'big') + data
    with_thumbnail = data[:2] + application_data + data[2:]
    path.write_bytes(with_thumbnail)
    MiniScapesDataset(root, 'train', pipeline=LOAD)[0]
    path.write_bytes(with_thumbnail[: -len(data) // 4])
    load_broken(root, path, 'is truncated')


@pytest.mark.parametrize('orientation', range(1, 9))
def test_photographs_are_upright_everywhere(root, orientation):
    """Training and test.py read them as they are stored, inference upright: mIoU fell from 29.7 to 3.4 on the same pictures.

    Labels are of the upright picture, as every viewer and labelling tool shows it.
    """
    path = root / 'train/rgb/0.jpg'
    upright = with_orientation(path, orientation)
    labels = {}
    for name in ('semseg', 'depth'):
        label = Image.open(root / f'train/{name}/0.png').resize(upright.shape[1::-1], Image.Resampling.NEAREST)
        label.save(root / f'train/{name}/0.png')
        labels[name] = np.asarray(label)
    for index in range(1, 4) if orientation > 4 else ():
        for name in ('rgb/{}.jpg', 'semseg/{}.png', 'depth/{}.png'):
            (root / 'train' / name.format(index)).unlink()
    samples = [MiniScapesDataset(root, 'train', pipeline=LOAD)[0], next(iter(read_frames(str(path))))]
    assert find_image_sizes([path]) == {'0': upright.shape[:2]}
    write_packed(list_miniscapes(root, 'train'))
    samples.append(MiniScapesDataset(root, 'train', pipeline=LOAD)[0])
    for sample in samples:
        image = sample.image if isinstance(sample, Frame) else sample['img']
        assert image.shape == upright.shape and np.abs(image.astype(int) - upright).max() <= 4
        if not isinstance(sample, Frame):
            np.testing.assert_array_equal(sample['gt_seg_map'], labels['semseg'])
            np.testing.assert_array_equal(sample['gt_depth_map'], labels['depth'])


@pytest.mark.parametrize('orientation', range(5, 9))
def test_a_label_that_lies_as_the_file_does_is_turned_with_it(root, orientation):
    """Its size tells: labels of tools that leave EXIF out."""
    with_orientation(root / 'train/rgb/0.jpg', orientation)
    label = np.asarray(Image.open(root / 'train/semseg/0.png'))
    vector = np.array([0.6, 0.3, np.sqrt(1 - 0.45)], np.float32)
    (root / 'train/normals').mkdir()
    np.save(root / 'train/normals/0.npy', np.broadcast_to(vector, (64, 96, 3)))
    labels = {
        'semseg': MINISCAPES_LABELS['semseg'],
        'normals': dict(type='SurfaceNormals', path='{split}/{name}/{stem}.npy'),
    }
    sample = MultiTaskDataset(root, labels=labels, indices=1, missing_labels=['normals'], pipeline=LOAD)[0]
    np.testing.assert_array_equal(sample['gt_seg_map'], orient(label, orientation))
    assert sample['img'].shape[:2] == sample['gt_seg_map'].shape == (96, 64)
    x, y, z = vector
    turned = {5: (-y, -x, z), 6: (y, -x, z), 7: (y, x, z), 8: (-y, x, z)}[orientation]
    np.testing.assert_allclose(decode_normals(sample['gt_normals_map'])[10, 10], turned, atol=0.02)


def test_a_label_of_neither_orientation(root):
    with_orientation(root / 'train/rgb/0.jpg', 6)
    path = root / 'train/semseg/0.png'
    Image.new('L', (95, 64)).save(path)
    load_broken(root, path, 'same size as its image, 64x96 (width x height). Found 95x64.')


def picture(mode, size=(96, 64)):
    return lambda path: Image.new(mode, size).save(path)


def damage(path):
    data = bytearray(path.read_bytes())
    data[data.index(b'IDAT') + 20] ^= 0x55
    path.write_bytes(data)


@pytest.mark.parametrize(
    ('name', 'write', 'message'),
    [
        ('rgb/0.jpg', lambda path: path.write_text('<html>not found</html>' * 10), 'should be a'),
        ('depth/0.png', lambda path: path.write_text('<html>not found</html>' * 10), 'should be a'),
        ('semseg/0.png', damage, 'cannot be decoded'),
        ('depth/0.png', damage, 'cannot be decoded'),
        ('semseg/0.png', lambda path: with_orientation(path, 3), 'should have no EXIF orientation. Found 3'),
        ('depth/0.png', picture('L', (96, 63)), 'same size as its image, 96x64 (width x height). Found 96x63.'),
        ('depth/0.png', picture('RGBA'), 'should be an 8-bit grey PNG. Found 8-bit RGB with alpha'),
        ('depth/0.png', picture('P'), 'should be an 8-bit grey PNG. Found '),
        ('semseg/0.png', picture('RGB'), 'should be a palette PNG or a grey one of 1, 8 or 16 bits. Found 8-bit RGB.'),
    ],
)
def test_a_file_that_cannot_be_used_is_told(root, name, write, message):
    write(root / 'train' / name)
    load_broken(root, root / 'train' / name, message)


@pytest.mark.parametrize('encoding', ['utf-8', 'utf-8-sig', 'utf-16'])
def test_descriptions_and_lists_have_any_mark_of_their_encoding(root, encoding):
    """A mark at the start was part of the first name, and no JSON; without one the locale chose the encoding."""
    names = ['chaussée', '道路', *map(str, range(17))]
    description = dict(labels=dict(semseg=dict(type='ClassMap', classes=names)))
    (root / 'dataset.json').write_bytes(json.dumps(description, ensure_ascii=False).encode(encoding))
    (root / 'split.txt').write_bytes('2\r\n0\r\n'.encode(encoding))
    dataset = MultiTaskDataset(root, labels=miniscapes_labels(root), split_file='split.txt')
    assert dataset.stems == ['2', '0'] and dataset.metainfo['classes'] == tuple(names)
    Image.new('RGB', (8, 8)).save(root / 'ä.png')
    (root / 'list.txt').write_bytes('ä.png\r\ntrain/rgb/1.jpg\r\n'.encode(encoding))
    assert [frame.name for frame in read_frames(str(root / 'list.txt'))] == ['ä', 'train/rgb/1']


def listed(root, capsys, **layout):
    """The stems of the training split, and what the terminal is told."""
    capsys.readouterr()
    dataset = MultiTaskDataset(root, labels=dict(semseg=MINISCAPES_LABELS['semseg']), **layout)
    for position in range(len(dataset)):
        assert dataset.read_sample(position)['gt_seg_map'].shape == (64, 96)
    return dataset.stems, capsys.readouterr().out


def test_images_and_labels_with_other_suffixes_are_read(root, capsys):
    """One of four was, and no word said so."""
    rgb, semseg = root / 'train/rgb', root / 'train/semseg'
    (rgb / '1.jpg').rename(rgb / '1.JPG')
    (rgb / '2.jpg').rename(rgb / '2.jpeg')
    Image.open(rgb / '3.jpg').save(rgb / '3.png')
    (rgb / '3.jpg').unlink()
    (semseg / '0.png').rename(semseg / '0.PNG')
    assert listed(root, capsys) == (['0', '1', '2', '3'], '')
    (root / 'split.txt').write_text('3\n2\n0\n')
    assert listed(root, capsys, split_file='split.txt') == (['3', '2', '0'], '')
    write_packed(list_miniscapes(root, 'train'))
    assert MiniScapesDataset(root).packed is not None
    shutil.copy(rgb / '2.jpeg', rgb / '2.PNG')
    with expect(DataError, "Images should have different names. Found '", '2.PNG', '2.jpeg'):
        listed(root, capsys)


def test_what_is_left_out_is_counted(root, capsys):
    rgb, semseg = root / 'train/rgb', root / 'train/semseg'
    shutil.copy(rgb / '0.jpg', rgb / '0.png')
    shutil.copy(rgb / '0.jpg', rgb / 'street_7.jpg')
    shutil.copy(rgb / '0.jpg', rgb / '12.png')
    shutil.copy(semseg / '0.png', semseg / '9.png')
    (rgb / 'more').mkdir()
    shutil.copy(rgb / '0.jpg', rgb / 'more' / '5.jpg')
    for name in ('.7.jpg', '._0.jpg', 'Thumbs.db'):
        (rgb / name).touch()
    stems, told = listed(root, capsys)
    assert stems == ['0', '1', '2', '3']
    assert "'train' has 4 samples. Left out: files: 4 (train/rgb/0.png, train/rgb/12.png, train/rgb/more/5.jpg, ...)" in told
    assert '; labels of semseg without an image: 1 (train/semseg/9.png).' in told
    assert told.count('Left out') == 1


def test_linked_and_nested_folders(root, capsys):
    """A link to a folder of another disk was left out without a word."""
    for name in ('rgb', 'semseg'):
        (root / 'store' / name / 'b').mkdir(parents=True)
        (root / 'nested' / name / 'a').mkdir(parents=True)
        (root / 'nested' / name / 'b').symlink_to(root / 'store' / name / 'b')
        # A link to a folder around itself has no end.
        (root / 'store' / name / 'b' / 'loop').symlink_to(root / 'nested' / name)
        suffix = 'jpg' if name == 'rgb' else 'png'
        for index, place in enumerate(('nested/{}/a', 'store/{}/b')):
            shutil.copy(root / f'train/{name}/{index}.{suffix}', root / place.format(name) / f'{index}.{suffix}')
    stems, _ = listed(root, capsys, split='nested', stem=r'[ab]/\d+')
    assert stems == ['a/0', 'b/1']


def test_a_folder_without_a_file_by_that_name_tells_what_is_there(root):
    for path in (root / 'train/rgb').iterdir():
        path.rename(path.with_name(f'frame{path.name}'))
    with expect(DataNotFoundError, 'holds no file named <index>.jpg', "Found 'train/rgb/frame0.jpg'", '`stem`'):
        MiniScapesDataset(root)
    for path in (root / 'train/rgb').iterdir():
        path.rename(path.with_name(path.name.removeprefix('frame')))
    (root / 'train/semseg/2.png').rename(root / 'train/semseg/2.npy')
    with expect(DataNotFoundError, "semseg/2.png' does not exist (1 of 4 images lack theirs). There is '2.npy'"):
        MiniScapesDataset(root)


def test_an_unlabelled_picture_of_another_format_is_no_sample(root, capsys):
    """A drawing of depth beside the photographs, say."""
    for path in (root / 'train/rgb').iterdir():
        shutil.copy(path, path.with_name(f'{path.stem}_depth.png'))
    stems, told = listed(root, capsys, stem='.+')
    assert stems == ['0', '1', '2', '3'] and 'Left out: files: 4 (train/rgb/0_depth.png' in told
