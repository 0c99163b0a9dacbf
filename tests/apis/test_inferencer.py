"""The inferencer in Python: its inputs, its memory, its tiles."""

import itertools
import weakref
from functools import partial

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from mtl_plugins.apis.inference import MultiTaskInferencer
from mtl_plugins.apis.inference.tiles import predict_in_tiles, windows
from mtl_plugins.config.load import load_config
from mtl_plugins.errors import ConfigError, CorruptFileError
from mtl_plugins.labels.presets import MINISCAPES_LABELS, build_labels
from mtl_plugins.loading import build_loader, load_model, predict_samples
from mtl_plugins.models.utils.inference import prepare_for_inference
from mtl_plugins.visualization.point_cloud import Intrinsics, encode_ply, make_point_cloud
from tests.tiny import CONFIGS, tiny_config
from tests.tools.photographs import JOINT, picture, save_checkpoint

BASELINE = CONFIGS / 'baseline/baseline_r18-d32_1xb16-16e_miniscapes-256x256.py'


class Local:
    """A runtime that sees ``radius`` pixels around each one, and takes its labels as they are defined."""

    labels = {name: MINISCAPES_LABELS[name] for name in ('semseg', 'depth', 'normals')}

    def __init__(self, radius: int = 0) -> None:
        self.radius, self.shapes = radius, []

    def __call__(self, images):
        self.shapes.append(images.shape)
        size = 2 * self.radius + 1
        # Sums of whole numbers: exact, whatever the tile.
        sums = [cv2.boxFilter(image.astype(np.float64), -1, (size, size), normalize=False) for image in images]
        mean = np.stack(sums).astype(np.float32) + 1
        normals = mean / np.linalg.norm(mean, axis=-1, keepdims=True)
        return dict(semseg=(mean[..., 0] % 19).astype(np.uint8), depth=mean[..., 1], normals=normals)


def test_arrays_pictures_batches_and_generators():
    inferencer = MultiTaskInferencer(Local(), batch_size=3)
    image = picture((20, 30))
    batch = np.stack([image] * 2)
    found = inferencer([image, image[..., 0], Image.fromarray(image), batch, (each for each in [image[:10]])])
    assert [prediction.name for prediction in found] == [f'image_{number:06d}' for number in range(6)]
    np.testing.assert_array_equal(found[1].image, np.stack([image[..., 0]] * 3, axis=-1))
    # Only images of one size that follow one another share a batch.
    assert inferencer.runtime.shapes == [(3, 20, 30, 3), (2, 20, 30, 3), (1, 10, 30, 3)]
    for wrong in (image.astype(float), image[..., :2], 3, [b'x'], np.zeros((0, 4, 3), np.uint8)):
        with pytest.raises(ConfigError, match=r'should be .* Found '):
            inferencer(wrong)


def test_memory_is_that_of_a_batch():
    alive, made = weakref.WeakSet(), 0

    class Counted(np.ndarray):
        """An array that can be looked up in a set."""

        __hash__ = object.__hash__

    def images():
        nonlocal made
        while True:
            image = np.full((8, 8, 3), made % 256, np.uint8).view(Counted)
            alive.add(image)
            made += 1
            yield image

    batch_size, ahead, seen = 4, 8, 0
    stream = MultiTaskInferencer(Local(), batch_size=batch_size).stream(images())
    for prediction in stream:
        assert prediction.image[0, 0, 0] == seen % 256 and prediction.values['semseg'][0, 0] == (seen % 256 + 1) % 19
        del prediction
        seen += 1
        # A batch that is handed out, one image of the next, and what is read ahead.
        assert made - seen <= batch_size + ahead and len(alive) <= batch_size + ahead + 2
        if seen == 60:
            stream.close()
    assert seen == 60


def test_a_bomb_raises_unless_someone_listens_and_is_refused_by_its_header(tmp_path, monkeypatch):
    for name, place, order in (('x.png', 16, 'big'), ('y.bmp', 18, 'little')):
        Image.fromarray(picture((8, 8))).save(tmp_path / name)
        content = bytearray((tmp_path / name).read_bytes())
        content[place : place + 8] = (20000).to_bytes(4, order) * 2
        (tmp_path / name).write_bytes(content)
    monkeypatch.setattr(cv2, 'imdecode', lambda *_: pytest.fail('decoded'))
    inferencer, sentences = MultiTaskInferencer(Local()), []
    with pytest.raises(CorruptFileError, match=r'x\.png'):
        inferencer(tmp_path)
    assert inferencer(tmp_path, on_error=sentences.append) == []
    assert len(sentences) == 2 and all('too large' in sentence or 'at most' in sentence for sentence in sentences), sentences


def test_predictions_and_probabilities_are_those_of_validation_bit_by_bit(tmp_path, data_root):
    path = save_checkpoint(tmp_path / 'x.pth')
    config = tiny_config(data_root, tmp_path / 'work', JOINT)
    model = prepare_for_inference(load_model(config, str(path)))
    samples = list(predict_samples([model], build_loader([model], [config])))
    found = MultiTaskInferencer(path, batch_size=2)(data_root / 'val/rgb')
    likely = MultiTaskInferencer(path, batch_size=2, probabilities=True)(data_root / 'val/rgb')
    assert len(found) == len(samples) == 3
    for sample, prediction, other in zip(samples, found, likely, strict=True):
        np.testing.assert_array_equal(prediction.image, sample.image)
        assert prediction.values.keys() == sample.predictions[0].keys() == {'semseg', 'depth'}
        for name, values in sample.predictions[0].items():
            np.testing.assert_array_equal(prediction.values[name], values)
            np.testing.assert_array_equal(other.values[name], values)
        (probabilities,) = other.probabilities.values()
        assert probabilities.shape == (32, 64, 19)
        np.testing.assert_allclose(probabilities.sum(-1), 1, atol=1e-5)
        np.testing.assert_array_equal(probabilities.argmax(-1), sample.predictions[0]['semseg'])


@pytest.mark.parametrize('precision', ['bfloat16', 'float16'])
def test_half_precision(tmp_path, precision):
    path = save_checkpoint(tmp_path / 'x.pth')
    image = picture((48, 80))
    (whole,), (half,) = (MultiTaskInferencer(path, precision=each)(image) for each in ('float32', precision))
    assert half.values['depth'].dtype == np.float32
    assert (whole.values['semseg'] == half.values['semseg']).mean() > 0.9
    assert 0 < np.abs(whole.values['depth'] / half.values['depth'] - 1).mean() < 0.1


@pytest.mark.parametrize(
    ('backend', 'package'),
    [('openvino', 'openvino'), pytest.param('onnx', 'onnxruntime', marks=pytest.mark.slow), ('compile', 'torch')],
)
def test_backends_predict_the_same(tmp_path, monkeypatch, backend, package):
    pytest.importorskip(package)
    if backend == 'compile':
        # All but the code, which takes a compiler half a minute to make.
        monkeypatch.setattr(torch, 'compile', partial(torch.compile, backend='eager'))
    path, images = save_checkpoint(tmp_path / 'x.pth'), [picture((40, 60)), picture((33, 50), seed=1)]
    expected = MultiTaskInferencer(path)(images)
    inferencer = MultiTaskInferencer(path, backend=backend)
    for one, other in zip(inferencer(images), expected, strict=True):
        assert (one.values['semseg'] == other.values['semseg']).mean() > 0.999
        np.testing.assert_allclose(one.values['depth'], other.values['depth'], rtol=1e-4)
    if backend == 'openvino':
        assert type(inferencer.runtime).__name__ == 'OpenVinoRuntime'
        with pytest.raises(ConfigError, match=r'`tta` should be left out, or `backend` be torch. Found openvino'):
            MultiTaskInferencer(path, backend=backend, tta=True)
    with pytest.raises(ConfigError, match=r"`backend` should be one of torch, compile, onnx, openvino. Found 'tpu'"):
        MultiTaskInferencer(path, backend='tpu')


def test_images_are_resized_as_asked_for_and_as_the_config_tests(tmp_path):
    (prediction,) = MultiTaskInferencer(Local(), short_side=10)(picture((20, 37)))
    assert prediction.image.shape == (10, 18, 3) and prediction.original_size == (20, 37)
    assert prediction.values['normals'].shape == (10, 18, 3)
    config = tmp_path / 'resizing.py'
    steps = "dict(type='LoadMiniScapes'), dict(type='ResizeToCover', size=32), dict(type='PackMultiTaskInputs')"
    config.write_text(f"_base_ = ['{JOINT}']\ntest_dataloader = dict(dataset=dict(pipeline=[{steps}]))\n")
    (prediction,) = MultiTaskInferencer(save_checkpoint(tmp_path / 'x.pth', config))(picture((40, 60)))
    assert prediction.values['semseg'].shape == (32, 48) and prediction.original_size == (40, 60)


# Tiles


def test_windows_cover_and_overlap():
    for length in (*range(1, 700, 13), 1023, 1024, 1025):
        for tile, overlap in ((64, 32), (128, 32), (128, 64), (256, 64)):
            places = windows(length, tile, overlap)
            assert places[0][0] == 0 and places[-1][1] == length
            assert all(start % 32 == 0 and 0 < end - start <= tile for start, end in places)
            for (_, end), (start, _) in itertools.pairwise(places):
                assert end - start >= overlap
            assert len(places) == 1 or places[-1][1] - places[-1][0] > tile - 32


@pytest.mark.parametrize('size', [(64, 64), (65, 64), (63, 500), (301, 97), (257, 258)])
def test_tiles_of_what_sees_a_quarter_of_the_overlap_are_exact(size):
    image = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    whole, tiled = (MultiTaskInferencer(Local(radius=8), **each) for each in ({}, dict(tile=64, overlap=32, batch_size=3)))
    (expected,), (found,) = whole(image), tiled(image)
    for name, values in expected.values.items():
        np.testing.assert_array_equal(found.values[name], values, err_msg=name)
    assert max(shape[1] for shape in tiled.runtime.shapes) <= 64 and max(shape[2] for shape in tiled.runtime.shapes) <= 64
    assert max(shape[0] for shape in tiled.runtime.shapes) <= 3


def test_between_tiles_numbers_pass_evenly_and_classes_change_in_the_middle():
    kinds = build_labels(MINISCAPES_LABELS)
    calls = iter(range(9))

    def predict(tiles):
        number = next(calls)
        shape = tiles.shape[:3]
        vector = np.broadcast_to(np.float32([0, 0, 1] if number else [1, 0, 0]), (*shape, 3))
        return dict(semseg=np.full(shape, number, np.uint8), depth=np.full(shape, 2.0 + 2 * number, np.float32), normals=vector)

    mixes = {name: kinds[name].mix for name in ('semseg', 'depth', 'normals')}
    found = predict_in_tiles(np.zeros((8, 96, 3), np.uint8), predict, mixes, tile=64, overlap=32, batch_size=1)
    share = np.clip((np.arange(96) - 31.5 - 8) / 16, 0, 1)
    np.testing.assert_allclose(found['depth'], np.broadcast_to(2 + 2 * share, (8, 96)), atol=1e-6)
    np.testing.assert_array_equal(found['semseg'], np.broadcast_to(share > 0.5, (8, 96)))
    np.testing.assert_allclose(np.linalg.norm(found['normals'], axis=-1), 1, atol=1e-6)
    np.testing.assert_allclose(
        np.arctan2(found['normals'][0, :, 2], found['normals'][0, :, 0]), np.arctan2(share, 1 - share), atol=1e-6
    )


def test_tiles_of_a_convolutional_network(tmp_path):
    # No pooling over the image: each prediction sees 31 pixels around a place of the coarse grid, which is 16 away at most.
    path = save_checkpoint(tmp_path / 'x.pth', BASELINE)
    image = cv2.resize(picture((40, 90), 3), (760, 330), interpolation=cv2.INTER_NEAREST)
    (whole,), (tiled,) = (MultiTaskInferencer(path, **each)(image) for each in ({}, dict(tile=448, overlap=192)))
    np.testing.assert_allclose(tiled.values['depth'], whole.values['depth'], rtol=1e-4)
    assert (tiled.values['semseg'] == whole.values['semseg']).mean() > 0.999
    assert len(np.unique(whole.values['semseg'])) > 1


# Points


def test_points_are_where_the_camera_saw_them(tmp_path):
    depth = np.array([[2.0, 0.0, 90.0], [4.0, 8.0, 1.0]], np.float32)
    colours = np.arange(18, dtype=np.uint8).reshape(2, 3, 3)
    cloud = make_point_cloud(depth, dict(image=colours), Intrinsics(2.0, 4.0, 1.0, 0.5), max_depth=80.0)
    expected = [(-1, 0.25, -2), (-2, -0.5, -4), (0, -1, -8), (0.5, -0.125, -1)]
    np.testing.assert_allclose(cloud.points, expected)
    content = encode_ply(cloud, 'a note')
    header, _, body = content.partition(b'end_header\n')
    assert header.splitlines() == [
        b'ply', b'format binary_little_endian 1.0', b'comment a note', b'element vertex 4', b'property float x',
        b'property float y', b'property float z', b'property uchar red', b'property uchar green', b'property uchar blue',
    ]  # fmt: skip
    vertices = np.frombuffer(body, [('xyz', '<f4', 3), ('rgb', 'u1', 3)])
    np.testing.assert_allclose(vertices['xyz'], expected)
    np.testing.assert_array_equal(vertices['rgb'], colours.reshape(-1, 3)[[0, 3, 4, 5]])


def test_intrinsics_follow_the_image():
    camera = Intrinsics.from_angle((100, 200), 90)
    assert (camera.fx, camera.fy, camera.cx, camera.cy) == pytest.approx((100, 100, 99.5, 49.5)) and camera.is_assumed
    # The edges of the image stay where they are seen.
    small = Intrinsics(50, 60, 99.5, 49.5).resized((100, 200), (50, 50))
    assert (small.fx, small.fy, small.cx, small.cy) == pytest.approx((12.5, 30, 24.5, 24.5))


def test_runtimes_must_say_what_they_predict():
    with pytest.raises(ConfigError, match='`labels` should hold the config of each label'):
        MultiTaskInferencer(lambda images: {})
    inferencer = MultiTaskInferencer(lambda images: dict(x=images[:, :2]), labels=dict(x=dict(type='DepthMap')))
    with pytest.raises(ConfigError, match=r'should predict `x` of shape \(1, 8, 8\)'):
        inferencer(picture((8, 8)))
    with pytest.raises(ConfigError, match='`config` should be left out'):
        MultiTaskInferencer(Local(), config='x.py')


def test_the_order_of_tasks_survives_a_config_that_is_written_down(tmp_path):
    # Keys are sorted then: depth, the first, used to get the channels of the first class.
    from mmengine.config import Config

    from mtl_plugins.registry import MODELS

    config = load_config(str(JOINT))
    (tmp_path / 'dump.py').write_text(config.pretty_text)
    dumped = load_config(str(tmp_path / 'dump.py'))
    assert list(Config.fromfile(tmp_path / 'dump.py').model.tasks) == ['depth', 'semseg']
    with torch.device('meta'):
        models = [MODELS.build(each.model) for each in (config, dumped)]
    assert [model.label_names for model in models] == [['semseg', 'depth']] * 2
    assert list(models[1].decode_head.out_channels.items()) == [('semseg', 19), ('depth', 1)]
    with pytest.raises(ValueError, match=r'`task_order` should name the tasks'):
        MODELS.build(load_config(str(JOINT), {'model.task_order': ['depth']}).model)
