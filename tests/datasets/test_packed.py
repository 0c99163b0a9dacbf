"""The packed folder: the same samples as the files, never a stale one, nothing half-written."""

import copy
import errno
import json
import os
import pickle

import numpy as np
import pytest
from PIL import Image

from mtl_plugins.datasets.loading.sample_key import SampleKey
from mtl_plugins.datasets.multitask.miniscapes import MiniScapesDataset
from mtl_plugins.datasets.multitask.split_listing import list_miniscapes
from mtl_plugins.datasets.packing.packed import FOLDER_NAME, iterate_samples, write_packed
from mtl_plugins.errors import CorruptFileError, DataError
from tests.fake_miniscapes import save_label, write_fake_miniscapes

PIPELINE = [
    dict(type='LoadMiniScapes'),
    dict(type='RandomHomography', crop_size=32, scale=(0.5, 2)),
    dict(type='PackMultiTaskInputs'),
]


@pytest.fixture
def root(tmp_path):
    return write_fake_miniscapes(tmp_path / 'data')


@pytest.fixture
def warnings(monkeypatch):
    """The texts of all warnings."""
    texts = []
    monkeypatch.setattr('mtl_plugins.datasets.packing.packed.print_log', lambda text, logger, level: texts.append(text))
    return texts


def pack(root, split='train'):
    return write_packed(list_miniscapes(root, split))


def dataset(root, split='train', **options):
    return MiniScapesDataset(root, split, pipeline=PIPELINE, **options)


def assert_same_items(first, second):
    assert first.keys() == second.keys()
    for key in first.keys() - {'labels', 'targets'}:
        np.testing.assert_array_equal(first[key], second[key])
    if 'targets' in first:
        assert first['labels'].keys() == second['labels'].keys()
        assert_same_items(first['targets'], second['targets'])


@pytest.mark.parametrize('pipeline', [PIPELINE, [dict(type='LoadMiniScapes'), dict(type='PackMultiTaskInputs')]])
@pytest.mark.parametrize('split', ['train', 'test'])
def test_samples_are_bit_identical(root, split, pipeline):
    pack(root, split)
    packed = MiniScapesDataset(root, split, pipeline=pipeline)
    files = MiniScapesDataset(root, split, pipeline=pipeline, use_packed=False)
    assert packed.packed is not None and files.packed is None
    for index in range(len(files)):
        key = SampleKey(index, 1, 2)
        assert_same_items(packed[key], files[key])


def test_files_are_not_read(root):
    """Proof that the folder is used: a file with other content but the old size and time changes nothing."""
    pack(root)
    path = root / 'train' / 'rgb' / '0.jpg'
    before, status = dataset(root)[0], path.stat()
    path.write_bytes(b'x' * status.st_size)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert_same_items(dataset(root)[0], before)


def test_subsets_and_single_tasks(root):
    pack(root)
    for options in (dict(indices=[3, 1]), dict(indices=-2), dict(tasks=('depth',)), dict(tasks=('semseg',))):
        packed, files = dataset(root, **options), dataset(root, use_packed=False, **options)
        assert packed.packed is not None
        for index in range(len(files)):
            assert_same_items(packed[index], files[index])


def test_only_tasks_present_are_packed(root):
    assert sorted(path.name for path in pack(root, 'test').iterdir()) == ['index.json', 'rgb.npy']
    assert sorted(path.name for path in pack(root).iterdir()) == ['depth.npy', 'index.json', 'rgb.npy', 'semseg.npy']


def test_copies_hold_no_data(root):
    """A pickled memory map holds its whole content: 16 GB for all of MiniScapes, once per spawned worker."""
    pack(root)
    packed = dataset(root).packed
    assert len(pickle.dumps(packed)) < 1000 < packed[0]['img'].nbytes
    for twin in (pickle.loads(pickle.dumps(packed)), copy.deepcopy(packed)):
        assert_same_items(twin[2], packed[2])


def test_arrays_are_read_only(root):
    pack(root)
    with pytest.raises(ValueError, match='read-only'):
        dataset(root).packed[0]['img'][0, 0, 0] = 1


def add_sample(train):
    Image.new('RGB', (96, 64)).save(train / 'rgb' / '9.jpg')
    for task in ('semseg', 'depth'):
        Image.new('L', (96, 64)).save(train / task / '9.png')


def remove_sample(train):
    for name in ('rgb/3.jpg', 'semseg/3.png', 'depth/3.png'):
        (train / name).unlink()


def change_size(train):
    save_label(train / 'semseg' / '1.png', np.full((64, 96), 3, np.uint8))


def change_time(train):
    status = (train / 'depth' / '1.png').stat()
    os.utime(train / 'depth' / '1.png', ns=(status.st_atime_ns, status.st_mtime_ns + 1))


def change_version(train):
    path = train / FOLDER_NAME / 'index.json'
    path.write_text(json.dumps({**json.loads(path.read_text()), 'version': 0}))


def damage_index(train):
    path = train / FOLDER_NAME / 'index.json'
    path.write_text(path.read_text()[:-40])


def truncate_array(train):
    path = train / FOLDER_NAME / 'rgb.npy'
    path.write_bytes(path.read_bytes()[:-1000])


def lose_array(train):
    (train / FOLDER_NAME / 'depth.npy').unlink()


@pytest.mark.parametrize(
    'change, reason',
    [
        (add_sample, 'added or removed'),
        (remove_sample, 'added or removed'),
        (change_size, "'semseg/1' was changed"),
        (change_time, "'depth/1' was changed"),
        (change_version, 'format version should be 1, found 0'),
        (damage_index, 'cannot be read'),
        (truncate_array, 'cannot be read'),
        (lose_array, 'cannot be read'),
    ],
)
def test_a_stale_or_broken_folder_is_never_used(root, change, reason, warnings):
    pack(root)
    change(root / 'train')
    stale = dataset(root)
    assert stale.packed is None
    assert len(warnings) == 1 and reason in warnings[0] and 'pack_dataset.py' in warnings[0] and '\n' not in warnings[0]
    assert_same_items(stale[1], dataset(root, use_packed=False)[1])
    pack(root)
    assert dataset(root).packed is not None


def test_labels_that_were_not_packed(root, warnings):
    write_packed(list_miniscapes(root, 'train', ('semseg',)))
    assert dataset(root, tasks=('semseg',)).packed is not None and not warnings
    assert dataset(root).packed is None
    assert "it lacks 'depth'" in warnings[0]


def test_images_of_differing_sizes_are_refused(root):
    for name in ('rgb/2.jpg', 'semseg/2.png', 'depth/2.png'):
        Image.new('RGB' if name.startswith('rgb') else 'L', (80, 64)).save(root / 'train' / name)
    with pytest.raises(CorruptFileError, match=r"one size.*80x64.*rgb/2.jpg'.*96x64.*rgb/0.jpg'"):
        pack(root)
    assert not list((root / 'train').glob('packed*'))


def test_a_corrupt_file_stops_packing(root):
    (root / 'train' / 'depth' / '3.png').write_bytes(b'')
    with pytest.raises(CorruptFileError, match=r'depth/3\.png'):
        pack(root)
    assert not list((root / 'train').glob('packed*'))


def test_full_disk_leaves_the_older_folder(root, monkeypatch):
    pack(root)
    before = {path.name: path.read_bytes() for path in (root / 'train' / FOLDER_NAME).iterdir()}
    change_size(root / 'train')

    def full(sample):
        raise OSError(errno.ENOSPC, 'No space left on device')

    monkeypatch.setattr('mtl_plugins.datasets.packing.packed.np.ascontiguousarray', full)
    with pytest.raises(DataError, match=r'disk is full: .* Nothing was changed\.'):
        pack(root)
    assert [path.name for path in (root / 'train').glob('packed*')] == [FOLDER_NAME]
    assert {path.name: path.read_bytes() for path in (root / 'train' / FOLDER_NAME).iterdir()} == before


@pytest.mark.parametrize('num_workers', [0, 1, 3])
def test_samples_come_in_order(tmp_path, num_workers):
    listing = list_miniscapes(write_fake_miniscapes(tmp_path, dict(train=20), size=(8, 16)), 'train')
    labels = [sample['gt_depth_map'] for sample in iterate_samples(listing, num_workers)]
    assert len(labels) == 20
    for index, label in enumerate(labels):
        np.testing.assert_array_equal(label, np.array(Image.open(listing.label_paths('depth', index)[0])))
