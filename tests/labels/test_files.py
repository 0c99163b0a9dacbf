"""Files of labels and predictions: what is read and written, and that a refusal says what is wrong with the file."""

import gzip
import io

import cv2
import numpy as np
import pytest
from PIL import Image

from mtl_plugins.errors import CorruptFileError, InvalidPredictionError
from mtl_plugins.labels.cityscapes_classes import PALETTE
from mtl_plugins.labels.decoding import decode_image, read_ids, read_numbers
from tests.fake_miniscapes import LABELS


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
        (decode_image, 'a.tif', tiff(np.dstack([IDS] * 3)), 'Found an image of another sort'),
        (decode_image, 'a.tif', tiff(IDS), 'Found numbers with fractions'),
        (decode_image, 'a.jpg', gzip.compress(b'x', mtime=0), 'Found a gzip file: unpack it'),
        (decode_image, 'a.png', b'<html>404</html>', 'Found a text of HTML'),
        (decode_image, 'a.npy', b'version https://git-lfs.github.com/spec/v1', 'Found a pointer of Git LFS'),
        (decode_image, 'a.npy', npy(np.dstack([IDS] * 3)), 'should be uint8, or numbers in 0..1. Found 0.0..11.0'),
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


def _maps(size, low, high):
    rng = np.random.default_rng(sum(size))
    yield rng.integers(low, high, size, dtype=np.uint8)
    yield np.full(size, high - 1, np.uint8)
    # Few close values exercise the ties of the Paeth filter.
    yield rng.integers(low, low + 4, size, dtype=np.uint8)
    slope = np.add.outer(np.arange(size[0]), np.arange(size[1])) % (high - low) + low
    yield slope.astype(np.uint8)


@pytest.mark.parametrize('size', [(1, 1), (1, 9), (9, 1), (13, 7), (64, 96)])
@pytest.mark.parametrize('task', ['semseg', 'depth'])
def test_every_reader_gets_the_same_pixels(tmp_path, size, task):
    for values in _maps(size, *((0, 19) if task == 'semseg' else (1, 256))):
        data = LABELS[task].to_png(values)
        image = Image.open(io.BytesIO(data))
        assert image.mode == ('P' if task == 'semseg' else 'L')
        np.testing.assert_array_equal(np.asarray(image), values)
        shown = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB)
        expected = np.array(PALETTE, np.uint8)[values] if task == 'semseg' else np.repeat(values[..., None], 3, 2)
        np.testing.assert_array_equal(shown, expected)
        np.testing.assert_array_equal(LABELS[task].from_png(data, size), values)
        path = tmp_path / 'map.png'
        path.write_bytes(data)
        np.testing.assert_array_equal(LABELS[task].decode(str(path)), values)


@pytest.mark.parametrize(
    'colours, options', [(2, dict(optimize=True)), (4, {}), (16, {}), (19, dict(optimize=True)), (256, dict(transparency=3))]
)
def test_palette_files_of_other_writers_are_read_as_indices(tmp_path, colours, options):
    """PIL stores a palette of at most 16 colours with fewer bits per pixel."""
    values = np.random.default_rng(0).integers(0, min(colours, 19), (5, 7), dtype=np.uint8)
    image = Image.fromarray(values)
    image.putpalette(bytes(range(256)) * 3 if colours == 256 else bytes(range(3 * colours)))
    image.save(tmp_path / 'map.png', **options)
    np.testing.assert_array_equal(LABELS['semseg'].from_png((tmp_path / 'map.png').read_bytes(), (5, 7)), values)
    np.testing.assert_array_equal(LABELS['semseg'].decode(str(tmp_path / 'map.png')), values)


def _png(array, mode=None, format='PNG'):
    content = io.BytesIO()
    image = Image.fromarray(array)
    (image.convert(mode) if mode else image).save(content, format)
    return content.getvalue()


ONES = np.ones((5, 7), np.uint8)
GOOD = {task: LABELS[task].to_png(ONES) for task in ('semseg', 'depth')}
IDAT = GOOD['depth'].index(b'IDAT')
# A few hundred bytes that announce 10^10 pixels must not be decoded, whatever follows.
HUGE = GOOD['depth'][:16] + (100_000).to_bytes(4, 'big') * 2 + GOOD['depth'][24:]
# A second header that announces a large image, where the chunks before the pixels are.
SECOND_HEADER = LABELS['depth'].to_png(np.ones((70, 70), np.uint8))[8:33]


@pytest.mark.parametrize(
    ('task', 'data', 'message'),
    [
        ('depth', b'', 'is not a PNG file'),
        ('depth', b'hello' * 20, 'is not a PNG file'),
        ('depth', _png(ONES, format='JPEG'), 'is not a PNG file'),
        ('depth', _png(ONES.astype(np.uint16)), 'should be an 8-bit grey PNG. Found 16-bit grey'),
        ('depth', _png(ONES, 'RGB'), 'should be an 8-bit grey PNG. Found 8-bit RGB'),
        ('depth', _png(ONES, '1'), 'should be an 8-bit grey PNG. Found 1-bit grey'),
        ('depth', GOOD['semseg'], 'should be an 8-bit grey PNG. Found 8-bit palette'),
        ('semseg', GOOD['depth'], 'should be a palette PNG. Found 8-bit grey'),
        ('semseg', _png(ONES, 'RGBA'), 'should be a palette PNG. Found 8-bit RGB with alpha'),
        ('depth', _png(ONES[:4]), r'should be 5x7 \(height x width\). Found 4x7'),
        ('depth', LABELS['depth'].to_png(ONES * 0), r'should hold depth codes 1\.\.255. Found 0'),
        ('semseg', LABELS['semseg'].to_png(ONES * 19), r'should hold classes 0\.\.18. Found 19'),
        ('depth', HUGE, 'Found 100000x100000'),
        ('depth', GOOD['depth'][:-20], 'is a truncated PNG file'),
        ('depth', GOOD['depth'][: IDAT + 8] + GOOD['depth'][-12:], 'is a corrupt PNG file'),
        ('depth', GOOD['depth'][: IDAT + 6] + b'xx' + GOOD['depth'][IDAT + 8 :], 'is a corrupt PNG file'),
        ('depth', GOOD['depth'][:33] + SECOND_HEADER + GOOD['depth'][33:], 'is a corrupt PNG file'),
        ('semseg', GOOD['semseg'][:33] + SECOND_HEADER + GOOD['semseg'][33:], 'is a corrupt PNG file'),
    ],
)
def test_refuses_everything_else(task, data, message):
    with pytest.raises(InvalidPredictionError, match=message):
        LABELS[task].from_png(data, (5, 7))
