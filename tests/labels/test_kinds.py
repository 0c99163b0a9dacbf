"""Each kind of label: what it reads, how a view changes it, what reaches the device, what a submission holds; codes of depth."""

import json
import math

import cv2
import numpy as np
import pytest
import torch

from mtl_plugins.datasets.transforms.geometric import crop_to_image
from mtl_plugins.errors import ConfigError, CorruptFileError, InvalidPredictionError
from mtl_plugins.evaluation.functional.depth_errors import DepthScorer
from mtl_plugins.lab.analysis.pixel_errors import errors_of
from mtl_plugins.labels.decoding import read_grey
from mtl_plugins.labels.depth_codec import DECODE_TABLE, decode_depth, encode_depth, encode_label
from mtl_plugins.labels.label_kind import LabelKind
from mtl_plugins.labels.presets import MINISCAPES_LABELS, build_label, build_labels, miniscapes_labels
from mtl_plugins.labels.surface_normals import decode_normals, encode_normals
from mtl_plugins.synthetic.streets.miniscapes_writer import semantic_boundaries

KINDS = build_labels(MINISCAPES_LABELS)


def random_values(name, size=(17, 23), seed=0):
    """Values as a task predicts them."""
    rng = np.random.default_rng(seed)
    vectors = rng.normal(size=(*size, 3)).astype(np.float32)
    return dict(
        semseg=rng.integers(0, 19, size, dtype=np.uint8),
        depth=rng.uniform(4, 300, size).astype(np.float32),
        normals=vectors / np.linalg.norm(vectors, axis=-1, keepdims=True),
        boundary=rng.random(size).astype(np.float32),
    )[name]


def save(path, array):
    """Write an array in the format of the suffix."""
    if path.suffix == '.npy':
        np.save(path, array)
    elif path.suffix == '.npz':
        np.savez(path, array)
    elif path.suffix == '.exr':
        openexr = pytest.importorskip('OpenEXR')
        names = 'RGB' if array.ndim == 3 else 'Z'
        channels = {name: np.ascontiguousarray(array.reshape(*array.shape[:2], -1)[..., k]) for k, name in enumerate(names)}
        openexr.File({}, channels).write(str(path))
    elif array.ndim == 3:
        assert cv2.imwrite(str(path), np.ascontiguousarray(array[..., ::-1]))
    else:
        assert cv2.imwrite(str(path), array)
    return str(path)


@pytest.mark.parametrize('name', KINDS)
def test_a_prediction_survives_its_file_up_to_a_step_of_its_codes(name):
    kind, values = KINDS[name], random_values(name)
    codes = kind.encode(values, 'nearest')
    assert codes.dtype == np.uint8
    np.testing.assert_array_equal(kind.from_png(kind.to_png(codes), values.shape[:2]), codes)
    error = np.abs(kind.code_values(codes).astype(float) - values)
    if name == 'depth':
        error = np.abs(1 / kind.code_values(codes) - 1 / values) / ((1 / 4 - 1 / 300) / 254)
    assert error.max() <= dict(semseg=0, depth=0.501, normals=0.009, boundary=0.502 / 255)[name]
    with pytest.raises(InvalidPredictionError, match='should be 9x9'):
        kind.from_png(kind.to_png(codes), (9, 9))


@pytest.mark.parametrize('name', KINDS)
def test_nothing_counts_in_a_blank_map(name):
    kind = KINDS[name]
    blank = kind.blank((5, 7))
    scorer = kind.scorer()
    scorer.add(scorer.measure(kind.to_values(blank), random_values(name, (5, 7))))
    assert scorer.is_empty() and blank.shape[:2] == (5, 7)
    assert name not in ('depth', 'normals') or np.isnan(list(scorer.scores().values())).all()
    picture = kind.colour(kind.to_values(blank))
    assert picture.shape == (5, 7, 3) and len(np.unique(picture.reshape(-1, 3), axis=0)) == 1


@pytest.mark.parametrize('name', KINDS)
def test_targets_on_the_device_are_the_values(name):
    kind = KINDS[name]
    stored = np.stack([kind.encode(random_values(name, seed=seed), 'nearest') for seed in range(2)])
    if name == 'boundary':
        stored = (stored > 99).astype(np.uint8)
    table = kind.table()
    target = kind.to_target(torch.from_numpy(stored), None if table is None else torch.from_numpy(table), None)
    values = np.stack([kind.to_values(maps) for maps in stored])
    if name == 'normals':
        values = values.transpose(0, 3, 1, 2)
    np.testing.assert_allclose(target.numpy(), values, rtol=1e-6, atol=1e-6)


CLASSES = dict(type='ClassMap', classes=['a', 'b', 'c'])
METRES = dict(type='DepthMap', encoding='metres')


@pytest.mark.parametrize(
    ('config', 'suffixes', 'array', 'expected'),
    [
        # What the mapping does not name is ignored.
        (
            dict(CLASSES, mapping={7: 0, 33: 2, 26: 1, 1: -1}),
            '.png .npy .npz',
            np.uint8([[0, 7, 33, 200], [1, 7, 254, 26]]),
            [[255, 0, 2, 255], [255, 0, 255, 1]],
        ),
        (dict(CLASSES, mapping={24001: 1, 7: 0}), '.png', np.uint16([[24001, 7, 24002]]), [[1, 0, 255]]),
        (CLASSES, '.npy', np.array([[-1.0, 1.0, 0.0]]), [[255, 1, 0]]),
        (dict(CLASSES, ignore=[11, 30]), '.png .npy', np.uint8([[2, 11, 255, 30]]), [[2, 255, 255, 255]]),
        (dict(CLASSES, ignore='others'), '.png', np.uint16([[2, 11, 255, 3000]]), [[2, 255, 255, 255]]),
        # Colours that differ in one channel, in any order; several are one class.
        (
            dict(CLASSES, colours=[[0, 0, 1], [[9, 0, 0], [0, 1, 0]], [[1, 0, 0]]], ignore=[[0, 0, 0]]),
            '.png',
            np.uint8([[[0, 1, 0], [0, 0, 0], [0, 0, 1], [1, 0, 0], [9, 0, 0]]]),
            [[1, 255, 0, 2, 1]],
        ),
        (
            dict(CLASSES, colours=[[0, 0, 1], [0, 1, 0], [1, 0, 0]], ignore='others'),
            '.png',
            np.uint8([[[0, 1, 0], [255, 255, 255], [0, 0, 0]]]),
            [[1, 255, 255]],
        ),
        # mmseg: 0 becomes 255, everything else one less, and 254 (that was 255) 255 again.
        (dict(CLASSES, reduce_zero_label=True), '.png', np.uint8([[0, 1, 2, 3, 255]]), [[255, 0, 1, 2, 255]]),
        (dict(METRES, scale=0.001), '.png .npy .npz .tiff', np.uint16([[0, 1, 1500, 65535]]), [[0, 0.001, 1.5, 65.535]]),
        (dict(METRES, scale=0.001, ignore=[65535]), '.png', np.uint16([[0, 1500, 65534, 65535]]), [[0, 1.5, 65.534, 0]]),
        (METRES, '.npy .tiff .exr', np.float32([[2.5, np.inf, -1, np.nan, 0]]), [[2.5, 0, 0, 0, 0]]),
        # x right, y down, z forward, as computer vision has it.
        (
            dict(type='SurfaceNormals', axes=('x', '-y', '-z')),
            '.npy .exr',
            np.float32([[[0, 0, -2], [0, -3, 0], [1, 0, 0], [0, 0, 0], [0, 0, 0.1]]]),
            [[[0, 0, 1], [0, 1, 0], [1, 0, 0], [0, 0, 0], [0, 0, 0]]],
        ),
        (dict(type='BoundaryMap'), '.png', np.uint8([[0, 1, 255]]), [[0, 1, 255]]),
    ],
)
def test_files_are_read_as_their_label_says(tmp_path, config, suffixes, array, expected):
    kind = build_label('parts', config)
    for suffix in suffixes.split():
        stored = kind.decode(save(tmp_path / f'x{suffix}', array))
        assert stored.dtype == kind.blank((1, 1)).dtype
        np.testing.assert_allclose(kind.to_values(stored), expected, rtol=1e-6)


@pytest.mark.parametrize(
    ('config', 'name', 'array', 'words'),
    [
        (CLASSES, 'x.npy', np.array([[3, 1]]), r'should hold class ids 0\.\.2 and 255. Found \[3\]'),
        (dict(CLASSES, ignore=[4]), 'x.png', np.uint8([[3, 4]]), r'should hold class ids 0\.\.2 and 255. Found \[3\]. `ignore`'),
        (
            dict(CLASSES, colours=[[0, 0, 1], [0, 1, 0], [1, 0, 0]]),
            'x.png',
            np.uint8([[[0, 0, 1], [0, 0, 2], [7, 8, 9], [0, 0, 2]]]),
            r'should hold the colours .* Found \[0, 0, 2\], \[7, 8, 9\] in 3 of 4 pixels',
        ),
        (dict(type='BoundaryMap'), 'x.png', np.uint8([[0, 2, 255]]), r'should hold 0, 1 and 255. Found \[2\]'),
    ],
)
def test_values_that_a_label_does_not_have(tmp_path, config, name, array, words):
    with pytest.raises(CorruptFileError, match=words):
        build_label('parts', config).decode(save(tmp_path / name, array))


def test_codes_of_normals_are_symmetric_and_unit():
    codes = np.random.default_rng(0).integers(1, 256, (50, 3), dtype=np.uint8)
    vectors = decode_normals(codes)
    known = codes.astype(int) - 128 != 0
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=-1)[known.any(-1)], 1, rtol=1e-6)
    mirrored = codes.copy()
    mirrored[:, 0] = -mirrored[:, 0]
    np.testing.assert_allclose(decode_normals(mirrored), vectors * (-1, 1, 1), atol=1e-7)
    assert encode_normals(np.array([[0.0, 0, 0], [np.nan, 0, 1]])).tolist() == [[0, 0, 0], [0, 0, 0]]


@pytest.mark.parametrize(('flip', 'tilt_deg'), [(True, 0.0), (False, 30.0), (True, -50.0)])
def test_a_view_turns_normals_as_it_turns_the_image(flip, tilt_deg):
    """Oracle: where the homography takes an arrow in the image along x and y, which points down there."""
    normal = np.array([0.3, 0.5, 0.8]) / np.linalg.norm([0.3, 0.5, 0.8])
    x, y, _ = np.linalg.inv(crop_to_image((64, 64), (0, 0), tilt_deg=tilt_deg, flip=flip)) @ (normal[0], -normal[1], 0)
    stored = KINDS['normals'].move(encode_normals(np.full((2, 2, 3), normal)), flip=flip, tilt_deg=tilt_deg)
    np.testing.assert_allclose(decode_normals(stored)[0, 0], (x, -y, normal[2]), atol=0.01)


@pytest.mark.parametrize('radius', [1, 2])
def test_boundaries_equal_those_of_a_loop(radius):
    rng = np.random.default_rng(0)
    label = rng.choice([0, 3, 255], size=(9, 12), p=[0.6, 0.3, 0.1]).astype(np.uint8)
    expected = np.zeros_like(label)
    for y, x in np.ndindex(label.shape):
        near = label[max(y - radius, 0) : y + radius + 1, max(x - radius, 0) : x + radius + 1]
        expected[y, x] = 255 if label[y, x] == 255 else int(len(set(near[near != 255].tolist())) > 1)
    np.testing.assert_array_equal(semantic_boundaries(label, radius), expected)


def test_a_folder_describes_its_own_labels(tmp_path):
    labels = dict(semseg=dict(type='ClassMap', classes=['a', 'b']), depth=dict(type='DepthMap', depth_range=[0.5, 10]))
    (tmp_path / 'dataset.json').write_text(json.dumps(dict(labels=labels)))
    (tmp_path / 'grader' / 'test').mkdir(parents=True)
    found = build_labels(miniscapes_labels(tmp_path / 'grader' / 'test'))
    assert found['semseg'].classes == ('a', 'b') and found['depth'].depth_range == (0.5, 10)
    # The code is that of the range: the nearest depth has the largest code.
    assert found['depth'].code_values(np.uint8([1, 255])) == pytest.approx([10, 0.5])


@pytest.mark.parametrize(
    ('config', 'message'),
    [
        (dict(type='ClassMaps'), r"`type` of the label x should be one of .* Found 'ClassMaps'"),
        (dict(type='ClassMap'), "missing 1 required keyword-only argument: 'classes'"),
        (dict(type='ClassMap', classes=['a', 'a']), '`classes` of x should be 2 to 255 different names without control'),
        (dict(type='ClassMap', classes=['crack']), r"Name what the other pixels are as well, as \['background', 'crack'\]"),
        (dict(type='DepthMap', scale=80 / 255), "`scale` of x should be given with the encoding 'metres' and no other"),
        (dict(type='DepthMap', encoding='metres', scale=0), '`scale` of x should be positive'),
        (dict(type='ClassMap', classes=['a', 'b'], palette=[[0, 0, 0]]), '`palette` of x should be 2 RGB colours'),
        (dict(type='ClassMap', classes=['a', 'b'], mapping={3: 2}), r'`mapping` of x should give classes 0\.\.1 or 255. Found 2'),
        (dict(type='ClassMap', classes=['a', 'b'], mapping={3: 1}, ignore=[4]), '`colours` and `ignore` of x should be left out'),
        (dict(type='ClassMap', classes=['a', 'b'], ignore=['c']), "`ignore` of x should be 'others' or a list of ids"),
        (dict(type='ClassMap', classes=['a', 'b'], colours=[[0, 0, 0]]), '`colours` of x should be 2 RGB colours'),
        (
            dict(type='ClassMap', classes=['a', 'b'], colours=[[0, 0, 0], [1, 1, 1]], ignore=[[1, 1, 1]]),
            r'all different. Found \[\[0, 0, 0\], \[1, 1, 1\]\] and',
        ),
        (dict(type='DepthMap', encoding='feet'), "`encoding` of x should be one of .* Found 'feet'"),
        (dict(type='DepthMap', encoding='disparity'), '`camera` of x should be given'),
        (dict(type='DepthMap', depth_range=(5, 4)), '`depth_range` of x should be two ascending'),
        (dict(type='SurfaceNormals', axes=('x', 'x', 'z')), '`axes` of x should be'),
        (dict(type='BoundaryMap', tolerance=-1), '`tolerance` of x should be a whole number from 0 to 1000. Found -1'),
    ],
)
def test_wrong_configs_are_one_sentence(config, message):
    with pytest.raises(ConfigError, match=message):
        build_label('x', config)


@pytest.mark.parametrize('size', [(40, 40), None])
@pytest.mark.parametrize('name', ['semseg', 'depth', 'normals', 'boundary'])
def test_a_label_of_another_or_absurd_size_is_refused_before_it_is_decoded(tmp_path, monkeypatch, name, size):
    # A map of 30000x30000 pixels used to be decoded first, which takes 0.9 GB.
    path = tmp_path / 'x.png'
    content = bytearray(KINDS[name].to_png(KINDS[name].encode(random_values(name), 'nearest')))
    content[16:24] = (30000).to_bytes(4, 'big') * 2
    path.write_bytes(content)
    monkeypatch.setattr(cv2, 'imdecode', lambda *_: pytest.fail('decoded'))
    expected = r'the same size as its image, 40x40 .*' if size else 'at most 268435456 pixels. '
    with pytest.raises(CorruptFileError, match=rf"x\.png' should have {expected}Found 30000x30000"):
        KINDS[name].decode(str(path), size=size)


def test_a_kind_without_pictures_and_statistics_has_those_of_all():
    class Heights(LabelKind):
        def decode(self, path, *, size=None):
            return read_grey(path, 'height map', size)

        def encode(self, values, rounding):
            return values.round().astype(np.uint8)

        def scorer(self):
            return DepthScorer(self.name)

    kind, values = Heights(name='height'), np.float32([[0, 100, 200]])
    codes = kind.encode(values, 'nearest')
    np.testing.assert_array_equal(kind.from_png(kind.to_png(codes), (1, 3)), codes)
    assert kind.colour(values)[0, :, 0].tolist() == [0, 127, 255] and kind.titles == ('height', 'predicted height')
    assert kind.contents(kind.count(codes)) == '33.3 % ignored' and kind.doubts(kind.count(codes), True) == []
    assert errors_of(kind).measure(values, values) == {} and errors_of(kind).bar() is None


CODES = np.arange(1, 256, dtype=np.uint8)


def _reference_code(depth: float, rounding: str) -> int:
    """The definition: disparity = 1/300 + (code - 1)/254 * (1/4 - 1/300)."""
    position = (1 / min(max(float(depth), 4.0), 300.0) - 1 / 300) / (1 / 4 - 1 / 300) * 254
    return 1 + (math.floor(position + 0.5) if rounding == 'nearest' else math.floor(position))


def _depths_near_every_step(rounding: str, ulps: int = 6) -> np.ndarray:
    """The float32 numbers around each depth at which the code changes, the ends of the range, and a dense grid."""
    offset = 0.5 if rounding == 'nearest' else 0.0
    disparity = 1 / 300 + (np.arange(255) + offset) / 254 * (1 / 4 - 1 / 300)
    steps = np.concatenate([1 / disparity, [4, 300]]).astype(np.float32)
    neighbours = steps.view(np.int32)[:, None] + np.arange(-ulps, ulps + 1, dtype=np.int32)
    grid = np.geomspace(0.5, 900, 20_000).astype(np.float32)
    return np.concatenate([neighbours.view(np.float32).ravel(), grid, np.float32([-5, 0, 1e-30, 1e30])])


def test_decode_table_is_the_definition():
    assert DECODE_TABLE[0] == 0
    for code in range(1, 256):
        disparity = 1 / 300 + (code - 1) / 254 * (1 / 4 - 1 / 300)
        assert DECODE_TABLE[code] == pytest.approx(1 / disparity, rel=1e-15)
    decoded = decode_depth(np.arange(256, dtype=np.uint8).reshape(16, 16))
    assert decoded.shape == (16, 16) and decoded.dtype == np.float32
    np.testing.assert_allclose(decoded.ravel(), DECODE_TABLE, rtol=6e-8)
    assert decoded[0, 1] == 300 and decoded[-1, -1] == 4


@pytest.mark.parametrize('rounding', ['nearest', 'truncate'])
def test_encode_equals_the_scalar_reference_at_every_step(rounding):
    depth = _depths_near_every_step(rounding)
    expected = [_reference_code(value, rounding) for value in depth]
    np.testing.assert_array_equal(encode_depth(depth, rounding), expected)
    assert min(expected) == 1 and max(expected) == 255


@pytest.mark.parametrize('dtype', [np.float32, np.float64])
def test_every_code_survives_nearest(dtype):
    np.testing.assert_array_equal(encode_depth(DECODE_TABLE[1:].astype(dtype)), CODES)
    np.testing.assert_array_equal(encode_label(DECODE_TABLE.astype(dtype)), np.arange(256))


def test_labels_beyond_the_range_are_invalid():
    depth = np.array([3.999, 4, 300, 300.01, 0, -1, np.nan, np.inf, -np.inf], dtype=np.float32)
    assert encode_label(depth).tolist() == [0, 255, 1, 0, 0, 0, 0, 0, 0]


def test_bad_input():
    with pytest.raises(ValueError, match='`depth` should be finite'):
        encode_depth(np.array([1, np.nan], np.float32))
    with pytest.raises(ValueError, match=r"`rounding` should be 'nearest' or 'truncate'. Found 'up'."):
        encode_depth(np.ones(1, np.float32), 'up')
    with pytest.raises(TypeError, match=r'`code` should be uint8. Found int64.'):
        decode_depth(np.ones(1, np.int64))
