"""NYU Depth V2 from the official MATLAB files and from arrays: orientation, numbers of classes, splits, many readers."""

import pickle
import re
import subprocess
import sys

import numpy as np
import pytest

pytest.importorskip('h5py')
pytest.importorskip('scipy')

import h5py
import torch
from scipy.io import savemat
from torch.utils.data import DataLoader

from mtl_plugins.datasets.conversion import convert, open_source
from mtl_plugins.datasets.loading.collate import multitask_collate
from mtl_plugins.datasets.loading.thread_loader import ThreadDataLoader
from mtl_plugins.datasets.nyuv2 import CLASSES_13, CLASSES_40, NYUv2Dataset, NYUv2MatDataset
from mtl_plugins.datasets.parquet import unpack_parquet
from mtl_plugins.errors import ArgumentError, ConfigError, CorruptFileError, DataNotFoundError
from tests.datasets.layouts import CLASS_13_OF_40, save_npy, write_nyuv2_arrays, write_nyuv2_forms, write_nyuv2_mat

MAT = 'nyu_depth_v2_labeled.mat'


@pytest.fixture
def root(tmp_path):
    return tmp_path / 'nyu'


@pytest.fixture
def content(root):
    return write_nyuv2_mat(root)


@pytest.mark.parametrize('num_classes', [40, 13])
@pytest.mark.parametrize(('split', 'frames'), [('train', [2, 3, 5, 6]), ('test', [1, 4])])
def test_a_frame_of_the_official_files(root, content, split, frames, num_classes):
    dataset = NYUv2MatDataset(root, split, num_classes=num_classes)
    assert dataset.stems == [f'{number:04d}' for number in frames]
    assert len(dataset.metainfo['classes']) == num_classes
    for position, number in enumerate(frames):
        sample = dataset.read_sample(position)
        np.testing.assert_array_equal(sample['img'], content['images'][number - 1])
        np.testing.assert_array_equal(sample['gt_depth_map'], content['depths'][number - 1])
        # Pixel by pixel, as the toolboxes do: 0 is unlabelled, the tables count from 1.
        expected = np.full(sample['img'].shape[:2], 255)
        for place, number_of_894 in np.ndenumerate(content['labels'][number - 1]):
            if number_of_894:
                forty = content['mapClass'][number_of_894 - 1]
                expected[place] = (forty if num_classes == 40 else CLASS_13_OF_40[forty - 1]) - 1
        np.testing.assert_array_equal(sample['gt_seg_map'], expected)
        assert sample['gt_seg_map'].dtype == np.uint8 and sample['img'].flags.c_contiguous


def test_depth_as_measured_needs_no_classes(root, content):
    dataset = NYUv2MatDataset(root, 'test', raw_depth=True, tasks=('depth',))
    sample = dataset.read_sample(1)
    np.testing.assert_array_equal(sample['gt_depth_map'], content['rawDepths'][3])
    assert list(sample) == ['img', 'gt_depth_map'] and (sample['gt_depth_map'] == 0).any()
    (root / 'classMapping40.mat').unlink()
    assert 'gt_depth_map' in NYUv2MatDataset(root, tasks=('depth',)).read_sample(0)
    with pytest.raises(DataNotFoundError, match=r"The file '.*classMapping40\.mat' does not exist. The toolboxes"):
        NYUv2MatDataset(root)


PIPELINE = [
    dict(type='LoadLabelledImage'),
    dict(type='RandomHomography', crop_size=16),
    dict(type='PackMultiTaskInputs', meta_keys=()),
]


@pytest.mark.parametrize(('loader', 'num_workers'), [(DataLoader, 2), (ThreadDataLoader, 3)])
def test_threads_and_processes_read_the_same(root, content, loader, num_workers):
    dataset = NYUv2MatDataset(root, pipeline=PIPELINE)
    # The parent has the file open when it is copied.
    dataset.read_sample(0)
    plain = list(DataLoader(dataset, batch_size=2, collate_fn=multitask_collate))
    for _ in range(2):
        torch.testing.assert_close(list(loader(dataset, 2, num_workers=num_workers, collate_fn=multitask_collate)), plain)
    # A pickle, as other ways to start a process make it, holds the path alone.
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(dataset)).read_sample(2)['img'], dataset.read_sample(2)['img'])


def test_threads_that_read_while_the_process_is_copied(root, content):
    """A lock that a thread held was copied and never released; one of our own, taken before h5py's, stopped the fork itself."""
    # In another process, which imports h5py when it opens the first file, as trainings do.
    code = f"""
import multiprocessing
from concurrent.futures import ThreadPoolExecutor
from mtl_plugins.datasets.nyuv2 import NYUv2MatDataset

dataset = NYUv2MatDataset({str(root)!r})
with ThreadPoolExecutor(2) as pool:
    reading = [pool.submit(dataset.read_sample, k % 4) for k in range(400)]
    for _ in range(10):
        process = multiprocessing.get_context('fork').Process(target=dataset.read_sample, args=(1,))
        process.start()
        process.join(timeout=60)
        assert process.exitcode == 0
    print(len([future.result() for future in reading]))
"""
    result = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, timeout=120)
    assert result.stdout == '400\n', result.stderr


def test_bad_files_are_one_sentence(root, content):
    (root / 'splits.mat').rename(root / 'kept')
    with pytest.raises(DataNotFoundError, match=r"splits\.mat' does not exist"):
        NYUv2MatDataset(root)
    savemat(root / 'splits.mat', dict(trainNdxs=[[1.0], [7.0]]))
    with pytest.raises(CorruptFileError, match=r'should number frames 1\.\.6 of'):
        NYUv2MatDataset(root)
    with pytest.raises(CorruptFileError, match=r"splits\.mat' should hold `testNdxs`\. Found \['trainNdxs'\]"):
        NYUv2MatDataset(root, 'test')
    (root / 'splits.mat').write_bytes(b'<html>' * 100)
    with pytest.raises(CorruptFileError, match=r"splits\.mat' cannot be read as a MATLAB file"):
        NYUv2MatDataset(root)
    (root / 'kept').rename(root / 'splits.mat')
    savemat(root / 'classMapping40.mat', dict(mapClass=np.array([[0, 41]])))
    with pytest.raises(CorruptFileError, match=r'`mapClass` in .* should hold classes 1\.\.40'):
        NYUv2MatDataset(root)
    savemat(root / 'classMapping40.mat', dict(mapClass=np.array([[1, 40]])))
    with pytest.raises(CorruptFileError, match=r"labels of '.*/0002' should be 0\.\.2, which 'classMapping40\.mat' maps"):
        NYUv2MatDataset(root).read_sample(0)
    with h5py.File(root / MAT, 'a') as file:
        del file['depths']
    with pytest.raises(CorruptFileError, match=r"should hold images .* and maps .*'depths': \(\)"):
        NYUv2MatDataset(root, tasks=('depth',))
    (root / MAT).write_bytes(b'MATLAB 5.0 MAT-file' + bytes(1000))
    with pytest.raises(CorruptFileError, match=r'should be an HDF5 file \(MATLAB v7\.3\)'):
        NYUv2MatDataset(root)
    (root / MAT).unlink()
    with pytest.raises(DataNotFoundError, match=rf"The file '.*{MAT}' does not exist"):
        NYUv2MatDataset(root)


def test_without_h5py_the_message_says_what_to_install(root, content, monkeypatch):
    monkeypatch.setitem(__import__('sys').modules, 'h5py', None)
    with pytest.raises(ConfigError, match=r'needs the package h5py. Run: pip install mtl_plugins\[nyuv2\]'):
        NYUv2MatDataset(root)


def test_an_image_with_the_channels_first_is_refused(root):
    save_npy(write_nyuv2_arrays(root) / 'val/image/0.npy', np.zeros((3, 32, 48)))
    with pytest.raises(CorruptFileError, match=r'should have the shape \(H, W, 3\)\. Found \(3, 32, 48\)'):
        NYUv2Dataset(root, 'val').read_sample(0)


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (dict(split='all'), r"`split` should be one of ['train', 'val', 'test']. Found 'all'"),
        (dict(num_classes=37), '`num_classes` should be 40 or 13. Found 37'),
        (dict(tasks=('semseg',), raw_depth=True), '`raw_depth` should be left out where depth is not read'),
        (dict(tasks=('depth',), num_classes=13), '`num_classes` should be left out where semseg is not read'),
    ],
)
def test_arguments_that_do_not_suit(root, content, options, message):
    with pytest.raises((ValueError, ConfigError), match=re.escape(message)):
        NYUv2MatDataset(root, **options)


@pytest.fixture(scope='module')
def forms(tmp_path_factory):
    """The same three frames in each form that there is, by how they are opened; two are for training."""
    root = tmp_path_factory.mktemp('forms')
    frames = write_nyuv2_forms(root)
    unpacked = {name: root / f'{name}_unpacked' for name in ('parquet_arrays', 'parquet_pictures')}
    for name, folder in unpacked.items():
        unpack_parquet(root / name, folder)
    # What a conversion keeps is compared in tests of its own: here classes and codes.
    convert(open_source('nyuv2', root / 'mat', num_classes=40)[0], root / 'converted')
    files = {name: root / name for name in ('pictures', 'arrays', 'converted')} | unpacked
    return frames, {name: (NYUv2Dataset, path) for name, path in files.items()} | dict(mat=(NYUv2MatDataset, root / 'mat'))


@pytest.mark.parametrize('num_classes', [40, 13])
@pytest.mark.parametrize('split', ['train', 'val', 'test'])
@pytest.mark.parametrize('form', ['mat', 'pictures', 'arrays', 'converted', 'parquet_arrays', 'parquet_pictures'])
def test_all_forms_hold_the_same(forms, form, split, num_classes):
    frames, opened = forms
    cls, path = opened[form]
    if (num_classes == 40) != (form == 'converted') and form in ('arrays', 'parquet_arrays', 'converted'):
        with pytest.raises(
            ArgumentError, match=rf'`num_classes` should be {40 if form == "converted" else 13} for .*{num_classes}'
        ):
            cls(path, split, num_classes=num_classes)
        return
    fitted = dict(fit_normals=9) if form in ('mat', 'pictures', 'parquet_pictures') else {}
    dataset = cls(path, split, num_classes=num_classes, **fitted)
    assert tuple(dataset.metainfo['classes']) == (CLASSES_40 if num_classes == 40 else CLASSES_13)
    expected = frames[:2] if split == 'train' else frames[2:]
    assert len(dataset) == len(expected)
    for position, frame in enumerate(expected):
        sample = dataset.read_sample(position)
        # Pictures of the folders are JPEG.
        is_lossy = form in ('pictures', 'converted', 'parquet_pictures')
        assert np.abs(sample['img'].astype(int) - frame['img']).max() <= (20 if is_lossy else 0)
        np.testing.assert_array_equal(sample['gt_seg_map'], frame[num_classes])
        # Millimetres in pictures, half a step of the code, 0.4 % at 0.5 m of a range to 10 m, in converted folders.
        atol = {'mat': 0, 'converted': 0.02}.get(form, 0.0005 if is_lossy else 0)
        metres = dataset.labels['depth'].to_values(sample['gt_depth_map'])
        np.testing.assert_allclose(metres, frame['depth'], rtol=0.01 if form == 'converted' else 1e-6, atol=atol)
        if form == 'converted':
            assert 'normals' not in dataset.labels
            continue
        normals = dataset.labels['normals'].to_values(sample['gt_normals_map'])
        known = normals.any(-1)
        assert known.mean() > 0.7 and (normals @ frame['normal'])[known].min() > 0.99


def test_parquet_files_that_cannot_be_used(forms, tmp_path):
    with pytest.raises(DataNotFoundError, match='holds no Parquet file, such as'):
        unpack_parquet(tmp_path, tmp_path / 'out')
    (tmp_path / 'train-00000-of-00001.parquet').write_bytes(b'PAR1' + bytes(100))
    with pytest.raises(CorruptFileError, match=r'train-00000-of-00001\.parquet. cannot be read as a Parquet file'):
        unpack_parquet(tmp_path, tmp_path / 'out')
    source = forms[1]['pictures'][1].parent / 'parquet_pictures'
    with pytest.raises(CorruptFileError, match=r'no such column as .?scene.* pictures or arrays'):
        unpack_parquet(source, tmp_path / 'out', ['scene'])
    assert not (tmp_path / 'out').exists()
    assert unpack_parquet(source, tmp_path / 'out', ['label']) == dict(train=(2, ['label']), test=(1, ['label']))
    assert [path.name for path in sorted((tmp_path / 'out/train').rglob('*.*'))] == ['0.png', '1.png']
