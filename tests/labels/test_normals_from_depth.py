"""Normals of planes fitted to depth, against least squares written out, on a plane and on a sphere."""

import cv2
import numpy as np
import pytest

from mtl_plugins.errors import ConfigError
from mtl_plugins.labels.normals_from_depth import fit_normals
from mtl_plugins.labels.presets import build_label
from mtl_plugins.labels.surface_normals import decode_normals

FOCAL, CENTRE, SIZE = (210.0, 190.0), (41.5, 30.0), (60, 80)


def rays():
    """The points of all pixels at depth 1, y down."""
    v, u = np.indices(SIZE)
    return np.stack([(u - CENTRE[0]) / FOCAL[0], (v - CENTRE[1]) / FOCAL[1], np.ones(SIZE)], axis=-1)


def plane(normal, distance):
    """Depth of a plane whose normal, with y up, points to the camera."""
    return distance / (rays() @ (np.array(normal) * (-1, 1, 1)))


def angles(first, second):
    cosine = (first * second).sum(-1) / np.maximum(np.linalg.norm(first, axis=-1) * np.linalg.norm(second, axis=-1), 1e-9)
    return np.rad2deg(np.arccos(cosine.clip(-1, 1)))


@pytest.mark.parametrize('normal', [(0, 0, 1), (0.6, 0, 0.8), (0.3, 0.8, np.sqrt(0.27))])
def test_a_plane_is_found_exactly(normal):
    found = fit_normals(plane(normal, 2.0), FOCAL, CENTRE, 9, 0.02)
    # In the corners less than half of the window lies within the image.
    assert np.argwhere(~found.any(-1)).size and not (~found.any(-1))[4:-4].any()
    assert angles(found, normal)[4:-4].max() < 1e-4


def test_it_is_least_squares_over_the_known_pixels():
    rng = np.random.default_rng(0)
    metres = plane((0.5, 0.5, np.sqrt(0.5)), 2.0) * rng.uniform(0.99, 1.01, SIZE)
    metres[rng.random(SIZE) < 0.2] = 0
    found = fit_normals(metres, FOCAL, CENTRE, 7, 0.02)
    for y, x in ((3, 3), (10, 40), (30, 20), (0, 17), (59, 50)):
        v, u = (each.ravel() for each in np.mgrid[max(y - 3, 0) : y + 4, max(x - 3, 0) : x + 4])
        inside = (v < SIZE[0]) & (u < SIZE[1])
        v, u = v[inside], u[inside]
        known = metres[v, u] > 0
        if not metres[y, x] or 2 * known.sum() < 49:
            assert not found[y, x].any()
            continue
        design = np.stack([(u - CENTRE[0]) / FOCAL[0], (v - CENTRE[1]) / FOCAL[1], np.ones(len(u))], axis=-1)[known]
        expected = np.linalg.lstsq(design, 1 / metres[v, u][known])[0] * (-1, 1, 1)
        np.testing.assert_allclose(found[y, x], expected, rtol=1e-6, atol=1e-9)


def test_a_sphere_before_a_wall(tmp_path):
    directions, middle, radius = rays(), np.array([0.05, -0.03, 2.0]), 0.3
    along, square = directions @ middle, (directions**2).sum(-1)
    discriminant = along**2 - square * (middle @ middle - radius**2)
    hit = discriminant > 0
    metres = np.where(hit, (along - np.sqrt(np.maximum(discriminant, 0))) / square, 3.0)
    # As a file of whole millimetres, read by the label.
    cv2.imwrite(str(tmp_path / 'x.png'), (metres * 1000).round().astype(np.uint16))
    label = dict(type='NormalsFromDepth', encoding='metres', scale=0.001, focal=FOCAL, centre=CENTRE, window=5)
    kind = build_label('normals', label)
    found = decode_normals(kind.decode(str(tmp_path / 'x.png')))
    known = found.any(-1)
    truth = (metres[..., None] * directions - middle) * (1, -1, -1)
    inner = cv2.erode(hit.astype(np.uint8), np.ones((5, 5))) == 1
    assert known[inner].mean() > 0.9 and angles(found, truth)[inner & known].mean() < 3
    wall = cv2.dilate(hit.astype(np.uint8), np.ones((5, 5))) == 0
    assert angles(found, (0, 0, 1.0))[wall & known].max() < 1
    # Where a window holds ball and wall, there is no plane.
    edge = ~inner & ~wall
    assert known[edge].mean() < 0.2
    assert kind.plain_config() == dict(type='SurfaceNormals') and str(kind.decoding()) == str(
        build_label('normals', label).decoding()
    )


@pytest.mark.parametrize('options', [dict(focal=0), dict(focal=(1, 2, 3)), dict(focal=5, window=4), dict(focal=5, centre=(1,))])
def test_wrong_arguments(options):
    with pytest.raises(ConfigError, match=r'`(focal|window|centre)` of x should be'):
        build_label('x', dict(type='NormalsFromDepth', **options))
