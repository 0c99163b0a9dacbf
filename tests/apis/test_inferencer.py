"""The inferencer in Python: its inputs, its memory, its tiles."""

import weakref
from functools import partial

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from mtl_plugins.apis.inference import MultiTaskInferencer
from mtl_plugins.apis.inference.tiles import predict_in_tiles
from mtl_plugins.errors import ConfigError, CorruptFileError
from mtl_plugins.lab.samples import build_loader, predict_samples
from mtl_plugins.labels.presets import MINISCAPES_LABELS, build_labels
from mtl_plugins.loading import load_model
from mtl_plugins.models.utils.inference import prepare_for_inference
from mtl_plugins.visualization.point_cloud import Intrinsics, encode_ply, make_point_cloud
from tests.tiny import tiny_config
from tests.tools.photographs import JOINT, picture, save_checkpoint


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


def test_arrays_pictures_batches_and_generators(tmp_path):
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
    # A file that cannot be used is an error unless somebody listens.
    (tmp_path / 'x.png').write_bytes(b'')
    with pytest.raises(CorruptFileError, match=r'x\.png'):
        inferencer(tmp_path)
    assert inferencer(tmp_path, on_error=lambda sentence: None) == []


def test_memory_is_that_of_a_batch():
    alive, made = weakref.WeakSet(), 0

    class Counted(np.ndarray):
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


def test_what_is_compiled_predicts_the_same(tmp_path, monkeypatch):
    # All but the code, which takes a compiler half a minute to make.
    monkeypatch.setattr(torch, 'compile', partial(torch.compile, backend='eager'))
    path, images = save_checkpoint(tmp_path / 'x.pth'), [picture((40, 60)), picture((33, 50), seed=1)]
    expected = MultiTaskInferencer(path)(images)
    for one, other in zip(MultiTaskInferencer(path, backend='compile')(images), expected, strict=True):
        assert (one.values['semseg'] == other.values['semseg']).mean() > 0.999
        np.testing.assert_allclose(one.values['depth'], other.values['depth'], rtol=1e-4)
    with pytest.raises(ConfigError, match=r"`backend` should be one of torch, compile. Found 'tpu'"):
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


def test_runtimes_must_predict_what_they_say():
    def halved(images):
        return dict(x=images[:, :2])

    halved.labels = dict(x=dict(type='DepthMap'))
    with pytest.raises(ConfigError, match=r'should predict `x` of shape \(1, 8, 8\)'):
        MultiTaskInferencer(halved)(picture((8, 8)))
    with pytest.raises(ConfigError, match='`config` should be left out'):
        MultiTaskInferencer(Local(), config='x.py')
