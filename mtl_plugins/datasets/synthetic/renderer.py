"""Renders a scene through one z-buffer, then shades every pixel once (a visibility buffer).

Pass 1 writes, per pixel, the inverse depth and the number of the nearest face. Inverse depth and the texture coordinates
divided by depth are affine in pixel coordinates, so a face costs a polygon fill and one comparison. Pass 2 looks up class
and colour of all pixels together. Class, depth and colour therefore always come from the same surface.
"""

from dataclasses import dataclass

import cv2
import numpy as np

from mtl_plugins.datasets.synthetic.atlas import LEVELS, MATERIALS, NEUTRAL_LUMINANCE, Atlas
from mtl_plugins.datasets.synthetic.camera import Camera, Ground
from mtl_plugins.datasets.synthetic.faces import FaceList
from mtl_plugins.datasets.synthetic.labels import SKY

NEAR = 0.4
GROUND_FACE, SKY_FACE, FIRST_FACE = 0, 1, 2
MIN_INVERSE_DEPTH = 1 / 1500.0


@dataclass
class Buffers:
    """What pass 1 leaves: ``inverse_depth (H, W)`` float32 (0 = sky), ``face (H, W)`` int64, ``beyond_hinge (H, W)`` bool."""

    inverse_depth: np.ndarray
    face: np.ndarray
    beyond_hinge: np.ndarray


@dataclass
class FaceArrays:
    """`FaceList` as arrays, in order of the faces kept."""

    maps: np.ndarray
    texture: np.ndarray
    repeat: np.ndarray
    paint: np.ndarray
    texels_per_metre: np.ndarray
    light: np.ndarray


def affine_image(row: np.ndarray, x0: int, x1: int, y0: int, y1: int) -> np.ndarray:
    """``row . (x, y, 1)`` for the pixels of a box, float32."""
    across = (row[0] * np.arange(x0, x1) + row[2]).astype(np.float32)
    down = (row[1] * np.arange(y0, y1)).astype(np.float32)
    return across[None] + down[:, None]


def ground_buffers(camera: Camera, ground: Ground) -> Buffers:
    """The z-buffer of the bare ground: of two planes the nearer one at a dip, the farther one over a crest.

    A far slope that falls so steeply that its plane passes above the camera is hidden behind the crest.
    """
    near_map, far_map = ground.plane_maps(camera)
    near, far = (affine_image(m[2], 0, camera.width, 0, camera.height) for m in (near_map, far_map))
    if ground.is_crest and (ground.slope_near - ground.slope_far) * ground.hinge >= camera.elevation:
        far = np.zeros_like(near)
        beyond = affine_image(near_map[1], 0, camera.width, 0, camera.height) > ground.hinge * near
    else:
        beyond = far < near if ground.is_crest else far > near
    inverse_depth = np.where(beyond, far, near)
    inverse_depth[inverse_depth < MIN_INVERSE_DEPTH] = 0
    face = np.where(inverse_depth > 0, GROUND_FACE, SKY_FACE)
    return Buffers(inverse_depth, face, beyond)


def project_polygons(camera: Camera, corners: np.ndarray) -> list[np.ndarray | None]:
    """Pixel polygons of planar world polygons ``(N, K, 3)``, cut off at the near plane; None where nothing is left."""
    points = camera.to_camera(corners)
    in_front = points[..., 2] > NEAR
    with np.errstate(divide='ignore', invalid='ignore'):
        pixels = camera.project(points)
    polygons: list[np.ndarray | None] = []
    for k, count in enumerate(in_front.sum(1).tolist()):
        if count == 0:
            polygons.append(None)
        elif count == corners.shape[1]:
            polygons.append(pixels[k])
        else:
            polygons.append(camera.project(_clip_near(points[k])))
    return polygons


def _clip_near(points: np.ndarray) -> np.ndarray:
    kept = []
    for a, b in zip(points, np.roll(points, -1, axis=0), strict=True):
        if a[2] > NEAR:
            kept.append(a)
        if (a[2] > NEAR) != (b[2] > NEAR):
            kept.append(a + (b - a) * ((NEAR - a[2]) / (b[2] - a[2])))
    return np.array(kept)


def draw_faces(buffers: Buffers, camera: Camera, faces: FaceList, atlas: Atlas, sun: 'np.ndarray', ambient: float) -> FaceArrays:
    """Pass 1 for all faces. ``sun (3,)``: direction to the sun times its strength; ``ambient``: light of the sky."""
    geometry = np.array(faces.geometry, np.float64).reshape(-1, 3, 3)
    origin, edge_u, edge_v = geometry[:, 0], geometry[:, 1], geometry[:, 2]
    normal = np.cross(edge_v, edge_u)
    normal /= np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-12)
    toward = np.einsum('nk,nk->n', normal, camera.position - origin)
    visible = (toward > 0) | ~np.array(faces.one_sided)
    normal *= np.sign(toward)[:, None]
    facing = np.array(faces.facing_viewer)
    light = ambient + np.maximum(normal @ sun, 0) + 0.06 * normal[:, 1]
    light[facing] = ambient + 0.45 * np.linalg.norm(sun)
    maps = camera.plane_maps(origin, edge_u, edge_v)
    repeat = np.array(faces.repeat, np.float64).reshape(-1, 2)
    texture = np.array(faces.texture)
    size = np.stack([atlas.width[texture, 0], atlas.height[texture, 0]], 1) * repeat
    lengths = np.stack([np.linalg.norm(edge_u, axis=1), np.linalg.norm(edge_v, axis=1)], 1)
    texels_per_metre = np.sqrt((size / np.maximum(lengths, 1e-6)).prod(1))
    corners = np.stack([origin, origin + edge_u, origin + edge_u + edge_v, origin + edge_v], 1)
    polygons = project_polygons(camera, corners)
    holes = faces.holes
    scratch = np.zeros((camera.height, camera.width), np.uint8)
    for k in np.flatnonzero(visible).tolist():
        if polygons[k] is not None:
            level = None
            if holes[k]:
                level = (texture[k], repeat[k], texels_per_metre[k] / camera.focal, atlas)
            _draw_face(buffers, scratch, polygons[k], maps[k], FIRST_FACE + k, level)
    return FaceArrays(maps, texture, repeat, np.array(faces.paint), texels_per_metre, light)


def _draw_face(buffers: Buffers, scratch: np.ndarray, polygon: np.ndarray, plane_map: np.ndarray, number: int, cut_out) -> None:
    height, width = buffers.face.shape
    (x0, y0), (x1, y1) = np.floor(polygon.min(0)), np.ceil(polygon.max(0))
    x0, y0, x1, y1 = int(max(x0, 0)), int(max(y0, 0)), int(min(x1 + 1, width)), int(min(y1 + 1, height))
    if x0 >= x1 or y0 >= y1:
        return
    inverse_depth = affine_image(plane_map[2], x0, x1, y0, y1)
    mask = scratch[: y1 - y0, : x1 - x0]
    mask[:] = 0
    cv2.fillConvexPoly(mask, np.rint((polygon - (x0, y0)) * 16).astype(np.int32), 1, shift=4)
    region = (slice(y0, y1), slice(x0, x1))
    won = mask.view(bool) & (inverse_depth > buffers.inverse_depth[region])
    if cut_out is not None:
        if not won.any():
            return
        won &= _opacity(plane_map, inverse_depth, (x0, x1, y0, y1), *cut_out)
    np.copyto(buffers.inverse_depth[region], inverse_depth, where=won)
    np.copyto(buffers.face[region], number, where=won)


def _opacity(plane_map, inverse_depth, box, texture: int, repeat, texels_per_pixel: float, atlas: Atlas) -> np.ndarray:
    """Opacity of a cut-out at each pixel of a box, at the level of detail of its middle."""
    middle = max(float(inverse_depth[inverse_depth.shape[0] // 2, inverse_depth.shape[1] // 2]), 1e-4)
    level = int(np.clip(np.log2(max(texels_per_pixel / middle, 1e-6)) + 0.3, 0, LEVELS - 1))
    opaque = atlas.opacity(texture, level)
    depth = 1 / np.maximum(inverse_depth, 1e-4)
    rows, columns = opaque.shape
    u = affine_image(plane_map[0] * (repeat[0] * columns), *box) * depth
    v = affine_image(plane_map[1] * (repeat[1] * rows), *box) * depth
    np.clip(u, 0, repeat[0] * columns - 0.01, out=u)
    np.clip(v, 0, repeat[1] * rows - 0.01, out=v)
    return opaque[v.astype(np.int32) & (rows - 1), u.astype(np.int32) & (columns - 1)]


def shade_faces(
    buffers: Buffers, arrays: FaceArrays, faces: FaceList, camera: Camera, atlas: Atlas, label: np.ndarray, colour: np.ndarray
) -> None:
    """Pass 2 for face pixels: fills ``label (H, W)`` uint8 and ``colour (H, W, 3)`` float32 in place."""
    flat = np.flatnonzero(buffers.face.ravel() >= FIRST_FACE)
    number = buffers.face.ravel()[flat] - FIRST_FACE
    y, x = np.divmod(flat.astype(np.int32), np.int32(camera.width))
    x, y = x.astype(np.float32), y.astype(np.float32)
    depth = 1 / buffers.inverse_depth.ravel()[flat]
    u, v = (_texture_coordinate(arrays, k, number, x, y, depth) for k in (0, 1))
    ratio = (arrays.texels_per_metre / camera.focal).astype(np.float32)[number] * depth
    level = np.clip(np.frexp(ratio)[1] - 0, 0, LEVELS - 1)
    slot = number * LEVELS + level
    height, width, offset = (table[arrays.texture].ravel()[slot] for table in (atlas.height, atlas.width, atlas.offset))
    column = (u * width).astype(np.int64) & (width - 1)
    row = (v * height).astype(np.int64) & (height - 1)
    texel = atlas.texels[offset + row * width + column]
    material = texel & (MATERIALS - 1)
    entry = arrays.paint[number] * MATERIALS + material
    label.ravel()[flat] = np.concatenate(faces.classes)[entry]
    brightness = (texel >> 3).astype(np.float32) * (arrays.light / NEUTRAL_LUMINANCE).astype(np.float32)[number]
    colour.reshape(-1, 3)[flat] = np.concatenate(faces.colours)[entry] * brightness[:, None]


def _texture_coordinate(arrays: FaceArrays, k: int, number, x, y, depth) -> np.ndarray:
    a, b, c = (arrays.maps[:, k, j].astype(np.float32)[number] for j in range(3))
    t = np.clip((a * x + b * y + c) * depth, 0, 0.9999)
    return t * arrays.repeat[:, k].astype(np.float32)[number]


def depth_map(buffers: Buffers) -> np.ndarray:
    """``(H, W)`` float32 metres along the optical axis; infinite for the sky."""
    with np.errstate(divide='ignore'):
        return np.where(buffers.face == SKY_FACE, np.inf, 1 / buffers.inverse_depth).astype(np.float32)


def blank_label(buffers: Buffers) -> np.ndarray:
    return np.full(buffers.face.shape, SKY, np.uint8)
