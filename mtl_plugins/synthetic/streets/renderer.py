"""Renders a scene through one z-buffer, then shades every pixel once (a visibility buffer).

Pass 1 writes, per pixel, the inverse depth and the number of the nearest face. Inverse depth and the texture coordinates
divided by depth are affine in pixel coordinates, so a face costs a polygon fill and one comparison. Pass 2 looks up class
and colour of all pixels together. Class, depth and colour therefore always come from the same surface.
"""

from dataclasses import dataclass

import numpy as np

from mtl_plugins.synthetic.canvas import Canvas
from mtl_plugins.synthetic.streets.atlas import LEVELS, MATERIALS, NEUTRAL_LUMINANCE, Atlas
from mtl_plugins.synthetic.streets.camera import Camera, Ground
from mtl_plugins.synthetic.streets.faces import FaceList
from mtl_plugins.synthetic.streets.rasteriser import NEAR, Buffers, Rasteriser, project_polygons

GROUND_FACE, SKY_FACE, FIRST_FACE = 0, 1, 2
MIN_INVERSE_DEPTH = 1 / 1500.0


@dataclass
class FaceArrays:
    """What pass 2 needs of each face: ``maps (N, 3, 3)`` of pixels to texture, ``normal (N, 3)`` toward the viewer in world axes,
    and a row per face of the rest."""

    maps: np.ndarray
    texture: np.ndarray
    repeat: np.ndarray
    paint: np.ndarray
    texels_per_metre: np.ndarray
    light: np.ndarray
    normal: np.ndarray


def affine_image(row: np.ndarray, camera: Camera) -> np.ndarray:
    """``row . (x, y, 1)`` at every pixel, ``(H, W)`` float32."""
    across = (row[0] * np.arange(camera.width) + row[2]).astype(np.float32)
    down = (row[1] * np.arange(camera.height)).astype(np.float32)
    return across[None] + down[:, None]


def ground_buffers(camera: Camera, ground: Ground) -> Buffers:
    """The z-buffer of the bare ground: of two planes the nearer one at a dip, the farther one over a crest.

    A far slope that falls so steeply that its plane passes above the camera is hidden behind the crest.
    """
    near_map, far_map = ground.plane_maps(camera)
    near, far = (affine_image(m[2], camera) for m in (near_map, far_map))
    if ground.is_crest and (ground.slope_near - ground.slope_far) * ground.hinge >= camera.elevation:
        far = np.zeros_like(near)
        beyond = affine_image(near_map[1], camera) > ground.hinge * near
    else:
        beyond = far < near if ground.is_crest else far > near
    inverse_depth = np.where(beyond, far, near)
    inverse_depth[inverse_depth < MIN_INVERSE_DEPTH] = 0
    face = np.where(inverse_depth > 0, GROUND_FACE, SKY_FACE)
    return Buffers(inverse_depth, face, beyond)


def draw_faces(buffers: Buffers, camera: Camera, faces: FaceList, atlas: Atlas, sun: np.ndarray, ambient: float) -> FaceArrays:
    """Pass 1 for all faces. ``sun (3,)``: direction to the sun times its strength; ``ambient``: light of the sky."""
    geometry = np.array(faces.geometry, np.float64).reshape(-1, 3, 3)
    origin, edge_u, edge_v = geometry[:, 0], geometry[:, 1], geometry[:, 2]
    normal = np.cross(edge_v, edge_u)
    normal /= np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-12)
    toward = np.einsum('nk,nk->n', normal, camera.position - origin)
    visible = (toward > 0) | ~np.array(faces.one_sided, bool)
    normal *= np.sign(toward)[:, None]
    light = ambient + np.maximum(normal @ sun, 0) + 0.06 * normal[:, 1]
    light[np.array(faces.facing_viewer, bool)] = ambient + 0.45 * np.linalg.norm(sun)
    maps = camera.plane_maps(origin, edge_u, edge_v)
    repeat = np.array(faces.repeat, np.float64).reshape(-1, 2)
    texture = np.array(faces.texture, np.int64)
    size = np.stack([atlas.width[texture, 0], atlas.height[texture, 0]], 1) * repeat
    lengths = np.stack([np.linalg.norm(edge_u, axis=1), np.linalg.norm(edge_v, axis=1)], 1)
    texels_per_metre = np.sqrt((size / np.maximum(lengths, 1e-6)).prod(1))
    corners = np.stack([origin, origin + edge_u, origin + edge_u + edge_v, origin + edge_v], 1)
    painter = Rasteriser(buffers)
    nearest = 1 / np.maximum(camera.to_camera(corners)[..., 2].min(1), NEAR)
    polygons = project_polygons(camera, corners)
    # Near faces first: most of what they hide then fails the depth test before its texture is looked at.
    for k in np.argsort(np.linalg.norm(corners.mean(1) - camera.position, axis=1)).tolist():
        if visible[k] and polygons[k] is not None:
            cut_out = None
            if faces.holes[k]:
                cut_out = atlas, faces.texture[k], faces.repeat[k], texels_per_metre[k] / camera.focal
            painter.draw(polygons[k], maps[k], nearest[k], FIRST_FACE + k, cut_out)
    paint = np.array(faces.paint, np.int64)
    return FaceArrays(maps.astype(np.float32), texture, repeat.astype(np.float32), paint, texels_per_metre, light, normal)


def shade_faces(buffers: Buffers, arrays: FaceArrays, faces: FaceList, camera: Camera, atlas: Atlas, canvas: Canvas) -> None:
    """Pass 2 for the pixels of faces."""
    flat = np.flatnonzero(buffers.face.ravel() >= FIRST_FACE)
    number = buffers.face.ravel().take(flat) - FIRST_FACE
    y, x = np.divmod(flat.astype(np.int32), np.int32(camera.width))
    x, y = x.astype(np.float32), y.astype(np.float32)
    depth = 1 / buffers.inverse_depth.ravel().take(flat)
    u, v = (_texture_coordinate(arrays, k, number, x, y, depth) for k in (0, 1))
    density = (arrays.texels_per_metre / camera.focal).astype(np.float32).take(number)
    slot = level_of_detail(density * depth)
    slot += number * LEVELS
    height, width, offset = (table[arrays.texture].ravel().take(slot) for table in (atlas.height, atlas.width, atlas.offset))
    column = (u * width).astype(np.int64) & (width - 1)
    row = (v * height).astype(np.int64) & (height - 1)
    texel = atlas.texels.take(offset + row * width + column)
    entry = arrays.paint.take(number) * MATERIALS + (texel & (MATERIALS - 1))
    canvas.label[flat] = np.array(faces.classes, np.uint8).take(entry)
    canvas.entry[flat] = entry + canvas.add_colours(faces.colours)
    canvas.brightness[flat] = (texel >> 3) * (arrays.light / NEUTRAL_LUMINANCE).astype(np.float32).take(number)


def level_of_detail(texels_per_pixel: np.ndarray) -> np.ndarray:
    """Level of the pyramid, int64, at which a pixel spans about one texel."""
    # The exponent bits of a float32 are its logarithm; the sum wraps nothing since the input is positive and finite.
    return np.clip((texels_per_pixel.view(np.int32) >> 23) - 126, 0, LEVELS - 1).astype(np.int64)


def _texture_coordinate(arrays: FaceArrays, k: int, number, x, y, depth) -> np.ndarray:
    a, b, c = (np.ascontiguousarray(arrays.maps[:, k, j]).take(number) for j in range(3))
    a *= x
    b *= y
    a += b
    a += c
    a *= depth
    np.clip(a, 0, 0.9999, out=a)
    a *= np.ascontiguousarray(arrays.repeat[:, k]).take(number)
    return a


def depth_map(buffers: Buffers) -> np.ndarray:
    """``(H, W)`` float32 metres along the optical axis; infinite for the sky."""
    with np.errstate(divide='ignore'):
        return 1 / buffers.inverse_depth


def normal_map(buffers: Buffers, arrays: FaceArrays, camera: Camera, ground: Ground) -> np.ndarray:
    """``(H, W, 3)`` float32 unit vectors of the surfaces, x right, y up, z towards the camera; zero for the sky.

    Exact: of the planes that the faces lie in, cut-outs such as leaves included, and of the two slopes of the ground.
    """
    slopes = np.array([[0, 1, -slope] for slope in (ground.slope_near, ground.slope_far)])
    slopes /= np.linalg.norm(slopes, axis=1, keepdims=True)
    world = np.concatenate([slopes, arrays.normal])
    # The camera's own axes point right, down and forward.
    table = (world @ camera.rotation.T * (1, -1, -1)).astype(np.float32)
    row = np.where(buffers.face == GROUND_FACE, buffers.beyond_hinge, buffers.face - FIRST_FACE + len(slopes))
    return np.where((buffers.face == SKY_FACE)[..., None], np.float32(0), table[np.maximum(row, 0)])
