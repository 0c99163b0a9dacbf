"""Cityscapes and Synscapes from their official folders: ids, categories, metres, splits, what may be missing."""

import shutil

import cv2
import numpy as np
import pytest

from mtl_plugins.datasets.cityscapes.cityscapes import SPLITS, CityscapesDataset, SynscapesDataset
from mtl_plugins.errors import ConfigError, CorruptFileError, DataNotFoundError
from tests.datasets.layouts import BASELINE, FOCAL, FRAMES, TRAIN_IDS, random_image, save_png, write_cityscapes

# Cityscapes' published table: category of each class by id.
CATEGORIES = dict(
    flat=(7, 8), construction=(11, 12, 13), object=(17, 19, 20), nature=(21, 22), sky=(23,), human=(24, 25),
    vehicle=(26, 27, 28, 31, 32, 33),
)  # fmt: skip


@pytest.fixture
def root(tmp_path):
    return write_cityscapes(tmp_path / 'cityscapes')


def test_a_sample_is_what_the_published_tables_and_formula_say(root):
    dataset = CityscapesDataset(root, 'train')
    assert dataset.stems == list(FRAMES['train'])
    sample, stem = dataset.read_sample(2), FRAMES['train'][2]
    image = cv2.imread(str(root / f'leftImg8bit/train/{stem}_leftImg8bit.png'))[..., ::-1]
    np.testing.assert_array_equal(sample['img'], image)
    ids = cv2.imread(str(root / f'gtFine/train/{stem}_gtFine_labelIds.png'), cv2.IMREAD_UNCHANGED)
    assert set(np.unique(ids)) == set(range(34))
    np.testing.assert_array_equal(sample['gt_seg_map'], np.vectorize(lambda number: TRAIN_IDS.get(number, 255))(ids))
    codes = cv2.imread(str(root / f'disparity/train/{stem}_disparity.png'), cv2.IMREAD_UNCHANGED).astype(float)
    with np.errstate(divide='ignore'):
        metres = np.where(codes > 0, BASELINE * FOCAL / ((codes - 1) / 256), 0)
    metres[metres > 300] = 0
    np.testing.assert_allclose(sample['gt_depth_map'], metres, rtol=1e-5)
    assert (metres > 0).mean() > 0.9 and not metres[0, :4].any() and sample['gt_depth_map'].dtype == np.float32


def test_the_seven_categories(root):
    dataset = CityscapesDataset(root, 'val', num_classes=7, tasks=('semseg',))
    assert dataset.metainfo['classes'] == tuple(CATEGORIES) and len(dataset.metainfo['palette']) == 7
    ids = cv2.imread(str(root / f'gtFine/val/{FRAMES["val"][0]}_gtFine_labelIds.png'), cv2.IMREAD_UNCHANGED)
    expected = np.full(ids.shape, 255)
    for number, members in enumerate(CATEGORIES.values()):
        expected[np.isin(ids, members)] = number
    np.testing.assert_array_equal(dataset.read_sample(0)['gt_seg_map'], expected)
    with pytest.raises(ValueError, match=r'`num_classes` should be left out where semseg is not read'):
        CityscapesDataset(root, num_classes=7, tasks=('depth',))
    with pytest.raises(ValueError, match=r'`num_classes` should be 19 \(classes\) or 7 \(categories\)\. Found 8'):
        CityscapesDataset(root, num_classes=8)


def test_archives_that_were_not_downloaded(root):
    for name in ('disparity', 'camera'):
        shutil.rmtree(root / name)
    assert list(CityscapesDataset(root, tasks=('semseg',)).read_sample(0)) == ['img', 'gt_seg_map']
    with pytest.raises(DataNotFoundError, match=r"_disparity\.png' does not exist \(4 of 4 .*Only the split 'test' may"):
        CityscapesDataset(root)
    # A test split is there to be predicted.
    assert (CityscapesDataset(root, 'test').read_sample(0)['gt_seg_map'] == 255).all()
    shutil.rmtree(root / 'gtFine')
    assert list(CityscapesDataset(root, 'test').read_sample(0)) == ['img']


def test_another_layout_is_named(root, tmp_path):
    with pytest.raises(DataNotFoundError, match=r"has no split 'train': the folder '.*/gtFine/leftImg8bit/train' does not exist"):
        CityscapesDataset(root / 'gtFine')
    (tmp_path / 'flat/leftImg8bit/train').mkdir(parents=True)
    with pytest.raises(DataNotFoundError, match=r'holds no file named <name>_leftImg8bit\.png'):
        CityscapesDataset(tmp_path / 'flat')
    camera = root / f'camera/train/{FRAMES["train"][0]}_camera.json'
    camera.write_text('{}')
    with pytest.raises(CorruptFileError, match=r'_camera\.json. should hold `extrinsic\.baseline` and `intrinsic\.fx`'):
        CityscapesDataset(root).read_sample(0)


DEPTH = np.array([[3.5, 4.25, 299.0, 301.0], [65504.0, np.inf, 0.0, 17.125]], np.float32)
# Beyond 4 .. 300 m nothing is known. All of these are exact in half precision.
KNOWN = np.array([[0, 4.25, 299, 0], [0, 0, 0, 17.125]], np.float32)


def save_exr(path, channels):
    openexr = pytest.importorskip('OpenEXR')
    path.parent.mkdir(parents=True, exist_ok=True)
    openexr.File(dict(compression=openexr.ZIP_COMPRESSION, type=openexr.scanlineimage), channels).write(str(path))


def write_synscapes(root, indices=(1, 3, 20_000, 20_001, 22_500, 22_501, 25_000), channels=None):
    rng = np.random.default_rng(0)
    for index in indices:
        save_png(root / f'img/rgb/{index}.png', random_image(rng, (2, 4)))
        save_png(root / f'img/class/{index}.png', rng.integers(0, 34, (2, 4), dtype=np.uint8))
        save_exr(root / f'img/depth/{index}.exr', channels or dict(Z=DEPTH))
    return root


@pytest.mark.parametrize(
    'channels',
    [
        dict(Z=DEPTH),
        dict(Z=DEPTH.astype(np.float16)),
        dict(Y=DEPTH.astype(np.float16)),
        dict(whatever=DEPTH),
        dict(R=DEPTH, G=-DEPTH, B=-DEPTH),
    ],
    ids=['float', 'half', 'luminance', 'one-channel', 'rgb'],
)
def test_depth_is_metres_whatever_the_file_calls_it(tmp_path, channels):
    dataset = SynscapesDataset(write_synscapes(tmp_path, (1,), channels))
    sample = dataset.read_sample(0)
    np.testing.assert_array_equal(sample['gt_depth_map'], KNOWN)
    assert sample['gt_depth_map'].dtype == np.float32


def test_class_files_hold_ids_of_cityscapes(tmp_path):
    write_synscapes(tmp_path, (1,))
    ids = np.array([[7, 26, 23, 0], [33, 29, 11, 24]], np.uint8)
    save_png(tmp_path / 'img/class/1.png', ids)
    label = SynscapesDataset(tmp_path).read_sample(0)['gt_seg_map']
    np.testing.assert_array_equal(label, [[TRAIN_IDS.get(int(number), 255) for number in row] for row in ids])


def test_splits_go_by_index(tmp_path):
    write_synscapes(tmp_path)
    stems = {split: SynscapesDataset(tmp_path, split).stems for split in SPLITS}
    assert stems == dict(train=['1', '3', '20000'], val=['20001', '22500'], test=['22501', '25000'])
    assert [last - first + 1 for first, last in SPLITS.values()] == [20_000, 2_500, 2_500]
    (tmp_path / 'mine.txt').write_text('25000\n1\n')
    assert SynscapesDataset(tmp_path, 'mine', split_file='{split}.txt').stems == ['25000', '1']
    with pytest.raises(ValueError, match=r"`split` should be one of \['train', 'val', 'test'\], or have a `split_file`"):
        SynscapesDataset(tmp_path, 'mine')


def test_bad_input_is_one_sentence(tmp_path):
    write_synscapes(tmp_path, (1, 2))
    with pytest.raises(DataNotFoundError, match="split 'val' is empty: none of the 2 images"):
        SynscapesDataset(tmp_path, 'val')
    save_exr(tmp_path / 'img/depth/2.exr', dict(U=DEPTH, W=DEPTH))
    with pytest.raises(CorruptFileError, match=r"should have one of the channels \('Z', .*Found \['U', 'W'\]"):
        SynscapesDataset(tmp_path).read_sample(1)
    (tmp_path / 'img/depth/2.exr').write_bytes(b'no EXR file')
    with pytest.raises(CorruptFileError, match=r'2\.exr. cannot be decoded'):
        SynscapesDataset(tmp_path).read_sample(1)


def test_without_openexr_the_message_says_what_to_install(tmp_path, monkeypatch):
    write_synscapes(tmp_path, (1,))
    monkeypatch.setitem(__import__('sys').modules, 'OpenEXR', None)
    assert 'gt_seg_map' in SynscapesDataset(tmp_path, tasks=('semseg',)).read_sample(0)
    with pytest.raises(ConfigError, match=r'needs the package OpenEXR. Run: pip install mtl_plugins\[exr\]'):
        SynscapesDataset(tmp_path).read_sample(0)
