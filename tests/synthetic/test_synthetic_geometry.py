"""The renderer against closed forms and against marching along rays."""

from dataclasses import replace

import numpy as np
import pytest

from mtl_plugins.labels.presets import MINISCAPES_LABELS, build_labels
from mtl_plugins.synthetic.streets.assets import load_assets
from mtl_plugins.synthetic.streets.atlas import LEVELS, Atlas
from mtl_plugins.synthetic.streets.camera import Camera, Ground
from mtl_plugins.synthetic.streets.faces import FaceList, street_axes
from mtl_plugins.synthetic.streets.labels import BUILDING, CAR, SKY, VEGETATION
from mtl_plugins.synthetic.streets.miniscapes_writer import semantic_boundaries, write_miniscapes
from mtl_plugins.synthetic.streets.renderer import Canvas, depth_map, draw_faces, ground_buffers, shade_faces
from mtl_plugins.synthetic.streets.street_scenes import render_sample, render_scene, sample_scene

LEVEL = Camera(height=96, width=192, focal=150.0, elevation=1.6)
CAMERA = replace(LEVEL, pitch=0.06)


def world_rays(camera: Camera) -> np.ndarray:
    """``(H, W, 3)``: the world direction of each pixel with unit depth, built from angles, not from matrices."""
    y, x = np.mgrid[: camera.height, : camera.width]
    right, down = (x - (camera.width - 1) / 2) / camera.focal, (y - (camera.height - 1) / 2) / camera.focal
    right, down = (
        right * np.cos(camera.roll) - down * np.sin(camera.roll),
        right * np.sin(camera.roll) + down * np.cos(camera.roll),
    )
    up = -down * np.cos(camera.pitch) - np.sin(camera.pitch)
    forward = np.cos(camera.pitch) - down * np.sin(camera.pitch)
    turned = right * np.cos(camera.yaw) + forward * np.sin(camera.yaw), forward * np.cos(camera.yaw) - right * np.sin(camera.yaw)
    return np.stack([turned[0], up, turned[1]], -1)


def draw(faces: FaceList, camera: Camera = CAMERA, ground: Ground | None = None, atlas: Atlas | None = None):
    atlas = atlas or load_assets().atlas
    buffers = ground_buffers(camera, ground or Ground())
    arrays = draw_faces(buffers, camera, faces, atlas, np.array([0.0, 0.5, 0.0]), 0.5)
    canvas = Canvas(camera.height, camera.width)
    shade_faces(buffers, arrays, faces, camera, atlas, canvas)
    return depth_map(buffers), canvas.label.reshape(canvas.shape), buffers


@pytest.mark.parametrize('camera', [CAMERA, Camera(64, 100, 90.0, 2.0, yaw=0.2, pitch=-0.03, roll=0.05)])
def test_flat_ground_is_elevation_over_descent(camera):
    descent = -world_rays(camera)[..., 1]
    with np.errstate(divide='ignore'):
        expected = np.where(descent > 0, camera.elevation / descent, np.inf)
    depth = depth_map(ground_buffers(camera, Ground()))
    seen = expected < 1000
    np.testing.assert_allclose(depth[seen], expected[seen], rtol=2e-4)
    assert np.isinf(depth[expected > 2000]).all()


@pytest.mark.parametrize(
    ('near', 'far', 'hinge'), [(0.0, 0.05, 30.0), (0.02, -0.03, 20.0), (0.0, -0.12, 25.0), (-0.03, 0.04, 40.0)]
)
def test_sloped_ground_equals_marching_along_rays(near, far, hinge):
    """A dip, a crest, a crest whose far side is hidden, and a valley."""
    ground = Ground(near, far, hinge)
    depth = depth_map(ground_buffers(CAMERA, ground))
    directions = world_rays(CAMERA)[:, 96]
    steps = np.arange(0.5, 150, 0.01)
    for row, direction in enumerate(directions):
        along, height = steps * direction[2], CAMERA.elevation + steps * direction[1]
        surface = near * np.minimum(along, hinge) + far * np.maximum(along - hinge, 0)
        under = np.flatnonzero(height < surface)
        if len(under):
            np.testing.assert_allclose(depth[row, 96], steps[under[0]], rtol=3e-3, atol=0.02)
        else:
            assert depth[row, 96] > 140


def test_a_wall_stands_at_its_depth_and_hides_what_is_behind():
    faces = FaceList()
    plain = load_assets().atlas.variants['plain'][0]
    faces.add((-2.0, 0.0, 10.0), (4.0, 0.0, 0.0), (0.0, 3.0, 0.0), plain, faces.add_paint([(200, 0, 0)], BUILDING))
    faces.add((-6.0, 0.0, 20.0), (12.0, 0.0, 0.0), (0.0, 9.0, 0.0), plain, faces.add_paint([(0, 0, 200)], VEGETATION))
    depth, label, _ = draw(faces, LEVEL)
    y, x = np.mgrid[:96, :192]
    across, up = (x - 95.5) / 150, -(y - 47.5) / 150
    margin = 1 / 150
    wall = (np.abs(across * 10) < 2 - 10 * margin) & (up * 10 + 1.6 > 10 * margin) & (up * 10 + 1.6 < 3 - 10 * margin)
    assert wall.sum() > 1000
    np.testing.assert_allclose(depth[wall], 10.0, rtol=1e-5)
    assert (label[wall] == BUILDING).all()
    not_wall = (np.abs(across * 10) > 2 + 10 * margin) | (up * 10 + 1.6 > 3 + 10 * margin)
    behind = not_wall & (np.abs(across * 20) < 6 - 20 * margin) & (up * 20 + 1.6 > 20 * margin) & (up * 20 + 1.6 < 9)
    np.testing.assert_allclose(depth[behind], 20.0, rtol=1e-5)
    assert (label[behind] == VEGETATION).all()
    assert (label[0] == SKY).all() or depth[0].min() >= 20


def test_texture_is_perspective_correct():
    """A wall that runs away from the camera, half of one class and half of another: they meet at its middle in the world."""
    atlas = Atlas()
    material = np.zeros((64, 64), np.uint8)
    material[:, 32:] = 1
    texture = atlas.add('halves', np.full((64, 64), 128.0), material)
    atlas.freeze()
    faces = FaceList()
    paint = faces.add_paint([(9, 9, 9), (200, 200, 200)], (BUILDING, VEGETATION))
    faces.add((-3.0, -1.0, 6.0), (0.0, 0.0, 24.0), (0.0, 6.0, 0.0), texture, paint)
    depth, label, buffers = draw(faces, CAMERA, atlas=atlas)
    wall = buffers.face == 2
    along = (depth * world_rays(CAMERA)[..., 2])[wall]
    first = label[wall] == BUILDING
    assert first.any()
    assert (~first).any()
    coarsest = 24 / (64 >> (LEVELS - 1))
    assert along[first].max() <= 18 + coarsest
    assert along[~first].min() >= 18 - coarsest
    close = along < 17
    assert first[close].mean() > 0.99


@pytest.mark.parametrize('kind', ['car', 'truck', 'bus', 'tram'])
def test_vehicles_stand_on_the_ground_within_their_box(kind):
    for vehicle in load_assets().vehicles[kind]:
        geometry = vehicle.template.geometry
        corners = np.concatenate([geometry[:, 0] + a * geometry[:, 1] + b * geometry[:, 2] for a in (0, 1) for b in (0, 1)])
        np.testing.assert_allclose(corners.min(0), (-vehicle.width / 2, 0, -vehicle.length / 2), atol=0.03)
        assert (corners.max(0) <= np.array([vehicle.width / 2, vehicle.height, vehicle.length / 2]) + 1e-9).all()
        side = load_assets().atlas.opacity(vehicle.template.textures[0], 0)
        assert side[0].any(), 'the wheels reach the lowest row of the silhouette'


def test_a_car_ahead_has_its_tail_at_the_right_depth():
    ground = Ground()
    vehicle = load_assets().vehicles['car'][0]
    faces = FaceList()
    paint = faces.add_paint([(180, 20, 20)], CAR)
    faces.add_object(vehicle.template, np.array(ground.point(0.0, 12.0)), street_axes(ground, 12.0), paint)
    depth, label, _ = draw(faces, LEVEL, ground)
    car = label == CAR
    tail = 12 - vehicle.length / 2
    np.testing.assert_allclose(depth[car].min(), tail, atol=0.05)
    assert depth[car].max() <= 12 + vehicle.length / 2 + 0.1
    rows, columns = np.nonzero(car)
    lowest = 47.5 + 1.6 / tail * 150
    assert abs(rows.max() - lowest) <= 1.5
    assert abs((columns.max() - columns.min()) - vehicle.width / tail * 150) <= 2.5


def test_a_cut_out_keeps_its_shape():
    faces = FaceList()
    atlas = load_assets().atlas
    texture = atlas.variants['person'][0]
    paint = faces.add_paint([(200, 100, 100)], CAR)
    faces.add_billboard((0.0, 0.0, 6.0), 0.9, 1.8, texture, paint)
    depth, label, _ = draw(faces, LEVEL)
    shown = label == CAR
    np.testing.assert_allclose(depth[shown], 6.0, rtol=1e-4)
    expected_pixels = atlas.opacity(texture, 0).mean() * 0.9 * 1.8 * (150 / 6) ** 2
    assert shown.sum() == pytest.approx(expected_pixels, rel=0.12)


def test_bent_street_keeps_its_direction():
    ground = Ground(bend=1 / 300)
    for z in (10.0, 60.0, 129.0, 180.0):
        numeric = (ground.axis_x(z + 1e-4) - ground.axis_x(z - 1e-4)) / 2e-4
        assert ground.heading(z) == pytest.approx(float(numeric), rel=1e-4)
        assert ground.point(2.0, z)[0] == pytest.approx(2.0 + float(ground.axis_x(z)))


def test_normals_are_those_of_the_depth_map():
    """On flat surfaces, by finite differences of the points that the depth map says; the sky has none."""
    shares = []
    for seed in range(3):
        scene = sample_scene(np.random.default_rng(seed), (96, 192), load_assets())
        rendering = render_scene(scene, with_normals=True)
        depth = rendering.depth.astype(np.float64)
        y, x = np.mgrid[: depth.shape[0], : depth.shape[1]]
        with np.errstate(invalid='ignore'):
            points = np.einsum('ij,jhw->hwi', scene.camera.rays, np.stack([x, y, np.ones_like(x)])) * depth[..., None]
            across, down = points[1:-1, 2:] - points[1:-1, :-2], points[2:, 1:-1] - points[:-2, 1:-1]
            normal = np.cross(down, across)
            normal /= np.linalg.norm(normal, axis=-1, keepdims=True)
        # Camera axes point right, down and forward.
        normal = normal * (1, -1, -1)
        normal *= np.sign((normal * -(points[1:-1, 1:-1] * (1, -1, -1))).sum(-1, keepdims=True))
        found = rendering.normals[1:-1, 1:-1]
        np.testing.assert_array_equal(found.any(-1), np.isfinite(depth[1:-1, 1:-1]))
        # Where the four neighbours lie on one plane, one over the depth is linear in the pixels.
        inverse = 1 / depth
        flat = np.abs(inverse[1:-1, 2:] + inverse[1:-1, :-2] - 2 * inverse[1:-1, 1:-1]) < 1e-6
        flat &= np.abs(inverse[2:, 1:-1] + inverse[:-2, 1:-1] - 2 * inverse[1:-1, 1:-1]) < 1e-6
        flat &= np.isfinite(normal).all(-1) & (depth[1:-1, 1:-1] < 40)
        cosine = (normal * found).sum(-1)[flat]
        assert flat.sum() > 3000
        shares.append((cosine > np.cos(np.deg2rad(3))).mean())
    assert min(shares) > 0.98, shares


def test_labels_on_request(tmp_path):
    names = ['semseg', 'depth', 'normals', 'boundary']
    plain = write_miniscapes(tmp_path / 'plain', 1, 0, 1, (32, 64))
    root = write_miniscapes(tmp_path / 'all', 1, 0, 1, (32, 64), labels=names)
    for folder in (root / 'train', root / 'grader' / 'test'):
        assert sorted(path.name for path in folder.iterdir() if path.name != 'rgb') == sorted(names)
    assert not (plain / 'train' / 'normals').exists()
    for name in ('rgb/0.jpg', 'semseg/0.png', 'depth/0.png'):
        assert (plain / 'train' / name).read_bytes() == (root / 'train' / name).read_bytes()
    rendering = render_sample(0, 'train', 0, (32, 64), with_normals=True)
    kinds = build_labels(MINISCAPES_LABELS)
    normals = kinds['normals'].to_values(kinds['normals'].decode(str(root / 'train/normals/0.png')))
    np.testing.assert_allclose(normals, rendering.normals, atol=0.01)
    boundary = kinds['boundary'].decode(str(root / 'train/boundary/0.png'))
    np.testing.assert_array_equal(boundary, semantic_boundaries(rendering.label))
    with pytest.raises(ValueError, match=r"`labels` should be different names out of .* Found \['flow'\]"):
        write_miniscapes(tmp_path / 'no', 1, 0, 0, (32, 64), labels=['flow'])
