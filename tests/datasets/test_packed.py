"""The packed folder, also on another disk: the same samples as the files, never a stale one, nothing half-written."""

import copy
import errno
import json
import os
import pickle
import shutil
import threading

import numpy as np
import pytest
from PIL import Image

from mtl_plugins.datasets.loading.labelled_dataset import SampleKey
from mtl_plugins.datasets.multitask.miniscapes import MiniScapesDataset, MultiTaskDataset
from mtl_plugins.datasets.multitask.split_listing import list_miniscapes
from mtl_plugins.datasets.packing import packed, staging
from mtl_plugins.datasets.packing.packed import FOLDER_NAME, open_packed, write_packed
from mtl_plugins.datasets.packing.staging import stage
from mtl_plugins.errors import CorruptFileError, DataNotFoundError
from mtl_plugins.labels.presets import MINISCAPES_LABELS
from tests.datasets.layouts import flip_last_bit
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
    monkeypatch.setattr(packed, 'print_log', lambda text, logger, level: texts.append(text))
    return texts


def pack(root, split='train'):
    return write_packed(list_miniscapes(root, split))


def dataset(root, **options):
    return MiniScapesDataset(root, **{'pipeline': PIPELINE, **options})


def assert_same_items(first, second):
    assert first.keys() == second.keys()
    for key in first.keys() - {'labels', 'targets'}:
        np.testing.assert_array_equal(first[key], second[key])
    if 'targets' in first:
        assert first['labels'].keys() == second['labels'].keys()
        assert_same_items(first['targets'], second['targets'])


@pytest.mark.parametrize(
    'options',
    [
        {},
        dict(split='test'),
        dict(pipeline=[PIPELINE[0], PIPELINE[2]]),
        dict(indices=[3, 1]),
        dict(indices=-2),
        dict(tasks=('depth',)),
        dict(tasks=('semseg',)),
    ],
)
def test_samples_are_bit_identical(root, options):
    pack(root, options.get('split', 'train'))
    found, files = dataset(root, **options), dataset(root, use_packed=False, **options)
    assert found.packed is not None and files.packed is None and len(found) == len(files) > 0
    for index in range(len(files)):
        key = SampleKey(index, 1, 2)
        assert_same_items(found[key], files[key])


def test_files_are_not_read(root, monkeypatch):
    """Neither decoded nor, from the second time on, compared."""
    before = dataset(root)[0]
    pack(root)
    monkeypatch.setattr(packed, 'decode_image', None)
    monkeypatch.setattr(packed, '_CLOCK_NS', 0)
    for _ in range(2):
        assert_same_items(dataset(root)[0], before)
        monkeypatch.setattr(packed, '_file_stamps', None)


def replace_content(path, content):
    """Other bytes of the same number under the old time."""
    status = path.stat()
    assert len(content) == status.st_size
    path.write_bytes(content)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def test_a_file_that_changed_within_its_size_and_time_is_noticed(root, warnings, monkeypatch):
    """It was not: the packed folder went by size and time alone."""
    pack(root)
    path = root / 'train' / 'depth' / '1.png'
    before = path.read_bytes()
    monkeypatch.setattr(packed, '_CLOCK_NS', 0)
    assert dataset(root).packed is not None
    # Whatever its time says, what is the same is the same: the data may be copied elsewhere.
    os.utime(path, ns=(0, 0))
    copied = shutil.copytree(root, root.with_name('copy'))
    assert dataset(root).packed is not None and dataset(copied).packed is not None and not warnings
    replace_content(path, before[:-1] + b'?')
    assert dataset(root).packed is None and "'depth/1' was changed" in warnings[0]
    replace_content(path, before)
    assert dataset(root).packed is not None
    replace_content(copied / 'train' / 'depth' / '1.png', before[:-1] + b'?')
    assert dataset(copied).packed is None


def test_a_folder_that_cannot_be_written_is_compared_each_time(root, monkeypatch, warnings):
    pack(root)

    def refuse(path, *arguments, **options):
        raise PermissionError(errno.EACCES, 'Permission denied', str(path))

    monkeypatch.setattr('pathlib.Path.touch', refuse)
    monkeypatch.setattr('pathlib.Path.write_text', refuse)
    assert dataset(root).packed is not None
    (root / 'train' / 'semseg' / '0.png').write_bytes(bytes((root / 'train' / 'semseg' / '0.png').stat().st_size))
    assert dataset(root).packed is None and "'semseg/0' was changed" in warnings[0]
    assert not (root / 'train' / FOLDER_NAME / packed.COMPARED_NAME).exists()


def write_description(root, semseg=None, depth=None):
    semseg = dict(type='ClassMap', classes=[str(number) for number in range(19)]) | (semseg or {})
    depth = dict(type='DepthMap', encoding='metres', scale=0.5) | (depth or {})
    (root / 'dataset.json').write_text(json.dumps(dict(labels=dict(semseg=semseg, depth=depth))))


def test_labels_of_a_config_those_that_only_look_otherwise_and_those_that_were_not_packed(root, warnings):
    pack(root)
    labels = {name: dict(config) for name, config in MINISCAPES_LABELS.items() if name in ('semseg', 'depth')}
    labels['semseg']['palette'] = [[number] * 3 for number in range(19)]
    labels['depth']['scale'] = 1.0
    assert MultiTaskDataset(root, labels=labels).packed is not None and not warnings
    labels['depth'].update(encoding='metres')
    assert MultiTaskDataset(root, labels=labels).packed is None and '`encoding`' in warnings[0]
    write_packed(list_miniscapes(root, 'train', ('semseg',)))
    assert dataset(root, tasks=('semseg',)).packed is not None and len(warnings) == 1
    assert dataset(root).packed is None and "it lacks 'depth'" in warnings[1]


def test_a_camera_file_counts_too(root, warnings):
    """Only the first of the files of a label was looked at, and disparity needs the focal length in the second."""
    depth = dict(type='DepthMap', encoding='disparity', camera='{split}/camera/{stem}.json')
    (root / 'dataset.json').write_text(json.dumps(dict(labels=dict(depth=depth))))
    (root / 'train' / 'camera').mkdir()
    cameras = [root / 'train' / 'camera' / f'{number}.json' for number in range(4)]
    for camera in cameras:
        camera.write_text(json.dumps(dict(extrinsic=dict(baseline=0.2), intrinsic=dict(fx=2000.0))))
    pack(root)
    assert dataset(root).packed is not None
    cameras[2].write_text(cameras[2].read_text().replace('2000.0', '1000.0'))
    assert dataset(root).packed is None and "'depth/2' was changed" in warnings[0]


@pytest.mark.parametrize('name', ['rgb', 'semseg', 'depth'])
def test_a_flipped_byte_is_never_read(root, name, warnings):
    """It was, without a word."""
    pack(root)
    flip_last_bit(root / 'train' / FOLDER_NAME / f'{name}.npy')
    found, files = dataset(root), dataset(root, use_packed=False)
    for index in range(4):
        assert_same_items(found[SampleKey(index, 0, index)], files[SampleKey(index, 0, index)])
    assert len(warnings) == 1 and f"sample 3 of '{name}.npy' is not what was packed" in warnings[0]
    # From there on files are read, in copies too.
    assert found.packed is None and pickle.loads(pickle.dumps(found)).packed is None


def test_each_sample_is_checked_once_by_a_process_and_its_forks(root, monkeypatch):
    pack(root)
    counted = []
    monkeypatch.setattr(packed, '_checksum', lambda array, checksum=packed._checksum: (counted.append(1), checksum(array))[1])
    found = dataset(root)
    child = os.fork()
    if not child:
        found[2]
        os._exit(len(counted))
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 3
    for _ in range(2):
        found[1], found[2]
    assert len(counted) == 3


def test_copies_hold_no_data_and_arrays_are_read_only(root):
    """A pickled memory map holds its whole content: 16 GB for all of MiniScapes, once per spawned worker."""
    assert sorted(path.name for path in pack(root, 'test').iterdir()) == ['index.json', 'rgb.npy']
    assert sorted(path.name for path in pack(root).iterdir()) == ['depth.npy', 'index.json', 'rgb.npy', 'semseg.npy']
    found = dataset(root).packed
    assert len(pickle.dumps(found)) < 1000 < found[0]['img'].nbytes
    for twin in (pickle.loads(pickle.dumps(found)), copy.deepcopy(found)):
        assert_same_items(twin[2], found[2])
    with pytest.raises(ValueError, match='read-only'):
        found[0]['img'][0, 0, 0] = 1


def add_sample(train):
    for name in ('rgb/9.jpg', 'semseg/9.png', 'depth/9.png'):
        Image.new('RGB' if name.startswith('rgb') else 'L', (96, 64)).save(train / name)


def change_size(train):
    save_label(train / 'semseg' / '1.png', np.full((64, 96), 3, np.uint8))


def edit(name, change):
    """A change of the text of a packed file, or of its array."""

    def apply(train):
        path = train / FOLDER_NAME / name
        if path.suffix == '.npy':
            np.save(path, change(np.load(path)), allow_pickle=True)
        else:
            path.write_text(change(path.read_text()))

    return apply


@pytest.mark.parametrize(
    'change, reason',
    [
        # The arrays of the old `scale`, `mapping` and so on were read.
        (dict(depth=dict(scale=0.25)), "`scale` of 'depth' was 0.5 when it was packed and is 0.25"),
        (dict(depth=dict(encoding='code', scale=1.0)), "`encoding` of 'depth'"),
        (dict(depth=dict(depth_range=[1, 9], within_range=True)), "`depth_range` of 'depth'"),
        (dict(depth=dict(within_range=True)), "`_known_range` of 'depth'"),
        (dict(semseg=dict(mapping={str(number): number // 2 for number in range(19)})), "`mapping` of 'semseg'"),
        (dict(semseg=dict(reduce_zero_label=True)), "`mapping` of 'semseg'"),
        (dict(semseg=dict(classes=['few', 'more'], mapping={0: 0, 1: 1})), "`classes` of 'semseg'"),
        (add_sample, 'added or removed'),
        (lambda train: [path.unlink() for path in train.glob('*/3.*')], 'added or removed'),
        (change_size, "'semseg/1' was changed"),
        (edit('index.json', lambda text: json.dumps({**json.loads(text), 'version': 0})), 'format version should be 2, found 0'),
        (edit('index.json', lambda text: text[:-40]), 'cannot be read'),
        (edit('index.json', lambda text: '[' * 100_000), 'cannot be read'),
        (lambda train: os.truncate(train / FOLDER_NAME / 'rgb.npy', 9999), 'cannot be read'),
        (lambda train: (train / FOLDER_NAME / 'depth.npy').unlink(), 'cannot be read'),
        (edit('depth.npy', lambda array: np.array([print], object)), 'cannot be read'),
        (edit('depth.npy', lambda array: array.astype(np.float32)), 'with a checksum each. Found float32 (4, 64, 96)'),
        (edit('semseg.npy', lambda array: array[:-1]), "'semseg.npy' should hold uint8 (4, 64, 96), with a checksum each"),
        (edit('rgb.npy', lambda array: array[..., :1]), "'rgb.npy' should hold uint8 (4, 64, 96, 3), with a checksum each"),
    ],
)
def test_a_stale_or_broken_folder_is_never_used(root, change, reason, warnings):
    if isinstance(change, dict):
        write_description(root)
    pack(root)
    assert dataset(root).packed is not None
    if isinstance(change, dict):
        write_description(root, **change)
    else:
        change(root / 'train')
    stale = dataset(root)
    assert stale.packed is None
    assert len(warnings) == 1 and reason in warnings[0] and 'mtl data pack' in warnings[0] and '\n' not in warnings[0]
    assert_same_items(stale[1], dataset(root, use_packed=False)[1])
    pack(root)
    assert dataset(root).packed is not None and len(warnings) == 1


def test_what_cannot_be_packed_leaves_nothing(root):
    for name in ('rgb/2.jpg', 'semseg/2.png', 'depth/2.png'):
        Image.new('RGB' if name.startswith('rgb') else 'L', (80, 64)).save(root / 'train' / name)
    with pytest.raises(CorruptFileError, match=r"one size.*80x64.*rgb/2.jpg'.*96x64.*rgb/0.jpg'"):
        pack(root)
    (root / 'train' / 'depth' / '1.png').write_bytes(b'')
    with pytest.raises(CorruptFileError, match=r'depth/1\.png'):
        pack(root)
    assert not list((root / 'train').glob('packed*'))


@pytest.fixture
def packed_root(root):
    """A data set whose training split is packed."""
    pack(root)
    return root


def assert_fresh(root, staged):
    for found, expected in zip(open_packed(list_miniscapes(staged, 'train')), dataset(root).packed, strict=True):
        assert_same_items(found, expected)


def test_a_staged_split_is_fresh_holds_the_same_samples_and_is_copied_once(packed_root, tmp_path):
    node = tmp_path / 'node' / 'tmp'
    staged = stage(packed_root, node)
    assert staged.parent == node
    copied = [path.relative_to(staged).as_posix() for path in staged.glob('*/packed/*') if path.resolve().is_relative_to(node)]
    assert sorted(copied) == [f'train/packed/{name}' for name in ('depth.npy', 'index.json', 'rgb.npy', 'semseg.npy')]
    # Splits without a packed folder are the original's, and so is what lies beside them.
    assert list_miniscapes(staged, 'val').stems == list_miniscapes(packed_root, 'val').stems
    assert (staged / 'grader').resolve() == (packed_root / 'grader').resolve()
    assert sorted(path.name for path in node.iterdir()) == [staged.name, f'{staged.name}.lock']
    assert_fresh(packed_root, staged)

    before = (staged / 'train' / 'packed' / 'rgb.npy').stat()
    assert stage(packed_root, node) == staged
    assert (staged / 'train' / 'packed' / 'rgb.npy').stat() == before
    # Another data set of the same name has its own place.
    other = shutil.copytree(packed_root, tmp_path / 'other' / 'data')
    assert stage(other, node) != staged


def test_a_copy_is_renewed_when_the_split_is_packed_anew_a_copy_is_damaged_or_something_came_beside_it(packed_root, tmp_path):
    """A copy of the right size was used for ever; a description or a split that came later was not seen by the trainings."""
    node, staged = tmp_path / 'node', stage(packed_root, tmp_path / 'node')
    shutil.copy(packed_root / 'train' / 'rgb' / '1.jpg', packed_root / 'train' / 'rgb' / '0.jpg')
    # As everywhere, the copy is stale from now on, as the original is.
    assert open_packed(list_miniscapes(staged, 'train')) is None
    pack(packed_root)
    assert_fresh(packed_root, stage(packed_root, node))
    flip_last_bit(staged / 'train' / 'packed' / 'semseg.npy')
    with pytest.raises(CorruptFileError, match=r"sample 3 of 'semseg.npy' is not what was packed"):
        open_packed(list_miniscapes(staged, 'train'))[3]
    assert_fresh(packed_root, stage(packed_root, node))

    kinds = dict(labels=dict(semseg=dict(type='ClassMap', classes=['all', 'none'], mapping={0: 0})))
    (packed_root / 'dataset.json').write_text(json.dumps(kinds))
    shutil.copytree(packed_root / 'val', packed_root / 'more')
    (packed_root / 'train' / 'normals').mkdir()
    assert stage(packed_root, node) == staged
    assert [(staged / name).exists() for name in ('dataset.json', 'more', 'train/normals')] == [True] * 3
    # Its labels are others than those that were packed.
    assert open_packed(list_miniscapes(staged, 'train')) is None
    shutil.rmtree(packed_root / 'more')
    assert not (stage(packed_root, node) / 'more').is_symlink()


def test_of_several_processes_one_copies(packed_root, tmp_path, monkeypatch):
    copies, copy = [], staging._copy
    monkeypatch.setattr(staging, '_copy', lambda *arguments: (copies.append(1), copy(*arguments)))
    threads = [threading.Thread(target=stage, args=(packed_root, tmp_path / 'node')) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert copies == [1]


def test_what_cannot_be_staged_is_said_in_a_sentence(data_root, tmp_path):
    with pytest.raises(DataNotFoundError, match=r"'.*nowhere' does not exist. Set it with `--data-root`"):
        stage(tmp_path / 'nowhere', tmp_path / 'node')
    with pytest.raises(DataNotFoundError, match=r'has no packed split to copy to the node. Run `mtl data pack`'):
        stage(data_root, tmp_path / 'node')
