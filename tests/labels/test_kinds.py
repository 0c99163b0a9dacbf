"""Each kind of label: what it reads, how a view changes it, what reaches the device, what a submission holds."""

import json
import re

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from mtl_plugins.errors import ConfigError, CorruptFileError, InvalidPredictionError
from mtl_plugins.evaluation.functional.depth_errors import DepthScorer
from mtl_plugins.labels.boundary_map import semantic_boundaries
from mtl_plugins.labels.decoding import decode_image, read_grey
from mtl_plugins.labels.label_kind import LabelKind
from mtl_plugins.labels.presets import MINISCAPES_LABELS, build_label, build_labels, miniscapes_labels
from mtl_plugins.labels.surface_normals import decode_normals, encode_normals
from mtl_plugins.registry import LABELS

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


@pytest.mark.parametrize('suffix', ['.png', '.npy', '.npz'])
def test_ids_are_mapped_and_what_the_mapping_does_not_name_is_ignored(tmp_path, suffix):
    ids = np.array([[0, 7, 33, 200], [1, 7, 254, 26]], np.uint8)
    kind = build_label('parts', dict(type='ClassMap', classes=['a', 'b', 'c'], mapping={7: 0, 33: 2, 26: 1, 1: -1}))
    expected = [[255, 0, 2, 255], [255, 0, 255, 1]]
    assert kind.decode(save(tmp_path / f'x{suffix}', ids)).tolist() == expected
    assert kind.key == 'gt_parts_map' and kind.classes == ('a', 'b', 'c')


def test_ids_of_sixteen_bits_and_negative_ones(tmp_path):
    kind = build_label('parts', dict(type='ClassMap', classes=['a', 'b'], mapping={24001: 1, 7: 0}))
    ids = np.array([[24001, 7, 24002]], np.uint16)
    assert kind.decode(save(tmp_path / 'x.png', ids)).tolist() == [[1, 0, 255]]
    plain = build_label('parts', dict(type='ClassMap', classes=['a', 'b']))
    assert plain.decode(save(tmp_path / 'x.npy', np.array([[-1.0, 1.0, 0.0]]))).tolist() == [[255, 1, 0]]
    with pytest.raises(CorruptFileError, match=r'should hold class ids 0\.\.1 and 255. Found \[2\]'):
        plain.decode(save(tmp_path / 'y.npy', np.array([[2, 1]])))
    with pytest.raises(CorruptFileError, match='should hold whole numbers'):
        plain.decode(save(tmp_path / 'y.npy', np.array([[0.5, 1]])))


def test_reduce_zero_label_is_that_of_mmseg(tmp_path):
    ids = np.array([[0, 1, 2, 3, 255]], np.uint8)
    kind = build_label('semseg', dict(type='ClassMap', classes=['a', 'b', 'c'], reduce_zero_label=True))
    # mmseg: 0 becomes 255, everything else one less, and 254 (that was 255) 255 again.
    expected = np.where(ids == 0, 255, ids - 1)
    expected[expected == 254] = 255
    np.testing.assert_array_equal(kind.decode(save(tmp_path / 'x.png', ids)), expected)


@pytest.mark.parametrize('suffix', ['.png', '.npy', '.npz', '.tiff'])
def test_depth_in_millimetres(tmp_path, suffix):
    millimetres = np.array([[0, 1, 1500, 65535]], np.uint16)
    kind = build_label('depth', dict(type='DepthMap', encoding='metres', scale=0.001, depth_range=(0.5, 10)))
    metres = kind.decode(save(tmp_path / f'x{suffix}', millimetres))
    assert metres.dtype == np.float32 and kind.blank((2, 3)).dtype == np.float32
    np.testing.assert_allclose(metres, [[0, 0.001, 1.5, 65.535]], rtol=1e-6)


@pytest.mark.parametrize('suffix', ['.exr', '.npy', '.tiff'])
def test_depth_in_metres_is_unknown_where_it_is_no_positive_number(tmp_path, suffix):
    metres = np.array([[2.5, np.inf, -1, np.nan, 0]], np.float32)
    kind = build_label('depth', dict(type='DepthMap', encoding='metres'))
    np.testing.assert_array_equal(kind.decode(save(tmp_path / f'x{suffix}', metres)), [[2.5, 0, 0, 0, 0]])


@pytest.mark.parametrize('suffix', ['.npy', '.exr'])
def test_normals_of_other_axes_and_lengths(tmp_path, suffix):
    """x right, y down, z forward, as computer vision has it, are x, -y, -z here."""
    vectors = np.array([[[0, 0, -2], [0, -3, 0], [1, 0, 0], [0, 0, 0], [0, 0, 0.1]]], np.float32)
    kind = build_label('normals', dict(type='SurfaceNormals', axes=('x', '-y', '-z')))
    values = kind.to_values(kind.decode(save(tmp_path / f'x{suffix}', vectors)))
    np.testing.assert_array_equal(values, [[[0, 0, 1], [0, 1, 0], [1, 0, 0], [0, 0, 0], [0, 0, 0]]])


def test_codes_of_normals_are_symmetric_and_unit():
    codes = np.random.default_rng(0).integers(1, 256, (50, 3), dtype=np.uint8)
    vectors = decode_normals(codes)
    known = codes.astype(int) - 128 != 0
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=-1)[known.any(-1)], 1, rtol=1e-6)
    mirrored = codes.copy()
    mirrored[:, 0] = -mirrored[:, 0]
    np.testing.assert_allclose(decode_normals(mirrored), vectors * (-1, 1, 1), atol=1e-7)
    assert encode_normals(np.array([[0.0, 0, 0], [np.nan, 0, 1]])).tolist() == [[0, 0, 0], [0, 0, 0]]


def plane_depth(normal, size=(64, 64), focal=60.0, distance=10.0):
    """Depth of the plane with this normal (x right, y up, z back) at that distance straight ahead, by intersecting rays."""
    y, x = np.mgrid[: size[0], : size[1]]
    rays = np.stack([(x - (size[1] - 1) / 2) / focal, -(y - (size[0] - 1) / 2) / focal, -np.ones(size)], -1)
    return normal[2] * distance / -(rays @ normal)


def normal_from_depth(depth, focal=60.0):
    """The normal at the middle, by finite differences of the points."""
    height, width = depth.shape
    y, x = np.mgrid[:height, :width]
    points = (
        np.stack([(x - (width - 1) / 2) / focal, -(y - (height - 1) / 2) / focal, -np.ones_like(depth)], -1) * depth[..., None]
    )
    cross = np.cross(points[1:-1, 2:] - points[1:-1, :-2], points[:-2, 1:-1] - points[2:, 1:-1])
    middle = cross[height // 2 - 1, width // 2 - 1]
    return middle / np.linalg.norm(middle)


@pytest.mark.parametrize(('flip', 'tilt_deg'), [(True, 0.0), (False, 30.0), (True, -50.0)])
def test_a_view_turns_normals_as_it_turns_the_scene(flip, tilt_deg):
    """Oracle: the depth map of a plane, moved pixel by pixel, and the normal of what is seen then."""
    normal = np.array([0.3, 0.5, 0.8]) / np.linalg.norm([0.3, 0.5, 0.8])
    depth = plane_depth(normal).astype(np.float32)
    np.testing.assert_allclose(normal_from_depth(depth), normal, atol=1e-3)

    from mtl_plugins.datasets.transforms.geometric import crop_to_image, warp

    matrix = crop_to_image((64, 64), (0, 0), tilt_deg=tilt_deg, flip=flip)
    moved = warp(depth, matrix, (64, 64), bilinear=True, border=0)
    stored = KINDS['normals'].move(encode_normals(np.full((2, 2, 3), normal)), flip=flip, tilt_deg=tilt_deg)
    np.testing.assert_allclose(decode_normals(stored)[0, 0], normal_from_depth(moved), atol=0.02)


@pytest.mark.parametrize('radius', [1, 2])
def test_boundaries_equal_those_of_a_loop(radius):
    rng = np.random.default_rng(0)
    label = rng.choice([0, 3, 255], size=(9, 12), p=[0.6, 0.3, 0.1]).astype(np.uint8)
    expected = np.zeros_like(label)
    for y, x in np.ndindex(label.shape):
        near = label[max(y - radius, 0) : y + radius + 1, max(x - radius, 0) : x + radius + 1]
        expected[y, x] = 255 if label[y, x] == 255 else int(len(set(near[near != 255].tolist())) > 1)
    np.testing.assert_array_equal(semantic_boundaries(label, radius), expected)


def test_boundary_files_hold_three_values(tmp_path):
    kind = KINDS['boundary']
    assert kind.decode(save(tmp_path / 'x.png', np.array([[0, 1, 255]], np.uint8))).tolist() == [[0, 1, 255]]
    with pytest.raises(CorruptFileError, match=r'should hold 0, 1 and 255. Found \[2\]'):
        kind.decode(save(tmp_path / 'x.png', np.array([[0, 2, 255]], np.uint8)))


def test_guesses_of_vectors_and_probabilities():
    normals, boundary = KINDS['normals'], KINDS['boundary']
    values = np.float32([[[[0, 0, 1], [0, 0, 0]]], [[[1, 0, 0], [0, 0, 0]]]])
    guess = normals.code_values(normals.guess([encode_normals(maps) for maps in values]))
    np.testing.assert_allclose(guess, np.full((1, 2, 3), [0.5**0.5, 0, 0.5**0.5]), atol=0.01)
    maps = np.array([[[0, 1, 255]], [[1, 1, 255]]], np.uint8)
    np.testing.assert_allclose(boundary.code_values(boundary.guess(maps)), [[0.5, 1, 0.75]], atol=0.003)


def test_a_folder_describes_its_own_labels(tmp_path):
    labels = dict(semseg=dict(type='ClassMap', classes=['a', 'b']), depth=dict(type='DepthMap', depth_range=[0.5, 10]))
    (tmp_path / 'dataset.json').write_text(json.dumps(dict(labels=labels)))
    (tmp_path / 'grader' / 'test').mkdir(parents=True)
    found = build_labels(miniscapes_labels(tmp_path / 'grader' / 'test'))
    assert found['semseg'].classes == ('a', 'b') and found['depth'].depth_range == (0.5, 10)
    # The code is that of the range: the nearest depth has the largest code.
    assert found['depth'].code_values(np.uint8([1, 255])) == pytest.approx([10, 0.5])
    (tmp_path / 'dataset.json').write_text('{"labels": 3}')
    with pytest.raises(CorruptFileError, match='`labels` should be an object'):
        miniscapes_labels(tmp_path)


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


def test_kinds_of_other_packages_come_from_the_registry():
    for name in ('ClassMap', 'DepthMap', 'SurfaceNormals', 'BoundaryMap'):
        assert LABELS.get(name).__name__ == name
    with pytest.raises(ValueError, match=re.escape('The name of a label should consist of letters')):
        LABELS.get('BoundaryMap')(name='a/b')


def test_images_in_png_and_arrays(tmp_path):
    image = np.random.default_rng(0).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    Image.fromarray(image).save(tmp_path / 'x.png')
    np.testing.assert_array_equal(decode_image(str(tmp_path / 'x.png')), image)
    np.testing.assert_array_equal(decode_image(save(tmp_path / 'x.npy', image / 255)), image)
    with pytest.raises(CorruptFileError, match=r'should be uint8, or numbers in 0\.\.1'):
        decode_image(save(tmp_path / 'x.npy', image.astype(float)))


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
    assert kind.pixel_errors(values, values) == {} and kind.error_bar() is None
    with pytest.raises(ConfigError, match='no baseline for the label `height`: Heights makes no guesses'):
        kind.guess([codes])
