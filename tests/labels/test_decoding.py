"""The reason of a refusal is what is wrong with the file."""

import gzip
import io

import cv2
import numpy as np
import pytest

from mtl_plugins.errors import CorruptFileError
from mtl_plugins.labels.decoding import decode_image, read_ids, read_numbers


def npy(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def tiff(array: np.ndarray) -> bytes:
    return cv2.imencode('.tiff', array)[1].tobytes()


IDS = np.arange(12, dtype=np.float32).reshape(3, 4)
UNKNOWN = np.where(IDS == 5, np.nan, IDS)


@pytest.mark.parametrize(
    'read, name, data, words',
    [
        (decode_image, 'a.tif', tiff(np.dstack([IDS] * 3)), 'Found another kind'),
        (decode_image, 'a.tif', tiff(IDS), 'Found numbers with fractions'),
        (decode_image, 'a.jpg', gzip.compress(b'x', mtime=0), 'Found a gzip file: unpack it'),
        (decode_image, 'a.png', b'<html>404</html>', 'Found a text of HTML'),
        (
            decode_image,
            'a.npy',
            b'version https://git-lfs.github.com/spec/v1',
            'Found a pointer of Git LFS',
        ),
        (read_ids, 'a.NPY', npy(UNKNOWN), 'should hold whole numbers. Found NaN or infinity'),
        (read_ids, 'a.npy', npy(IDS + 0.5), 'Found fractions'),
        (read_ids, 'a.npy', gzip.compress(npy(IDS), mtime=0), 'should be a NumPy file. Found a gzip file: unpack it'),
        (read_ids, 'a.png', tiff(IDS), 'should be a PNG file. Found a TIFF file'),
        (read_ids, 'a.png', npy(IDS), 'should be a PNG file. Found a NumPy file'),
        (read_numbers, 'a.TIF', gzip.compress(tiff(IDS), mtime=0), 'should be a TIFF file. Found a gzip file'),
        (read_numbers, 'a.tif', tiff(IDS)[:6], 'Found a damaged header'),
    ],
)
def test_the_reason_is_what_is_wrong_with_the_file(tmp_path, read, name, data, words):
    """NaN among ids were called fractions, gzip a pickle, numbers with fractions another kind or damage."""
    path = tmp_path / name
    path.write_bytes(data)
    with pytest.raises(CorruptFileError) as caught:
        read(str(path), *(['depth map'] if read is read_numbers else []))
    assert words in str(caught.value) and str(path) in str(caught.value), caught.value


@pytest.mark.parametrize('name', ['a.npy', 'a.NPY', 'a.tif', 'a.TIFF'])
def test_suffixes_in_capitals_are_read_like_others(tmp_path, name):
    path = tmp_path / name
    path.write_bytes(npy(IDS) if name.lower().endswith('npy') else tiff(IDS))
    np.testing.assert_array_equal(read_numbers(str(path), 'depth map'), IDS)
    if name.lower().endswith('npy'):
        np.testing.assert_array_equal(read_ids(str(path)), IDS.astype(int))
