"""Renders a scene through one z-buffer, then shades every pixel once (a visibility buffer).

Pass 1 writes, per pixel, the inverse depth and the number of the nearest face. Inverse depth and the texture coordinates
divided by depth are affine in pixel coordinates, so a face costs a polygon fill and one comparison. Pass 2 looks up class
and colour of all pixels together. Class, depth and colour therefore always come from the same surface.
"""

import math
from dataclasses import dataclass

import cv2
import numpy as np

from mtl_plugins.synthetic.streets.atlas import LEVELS, MATERIALS, NEUTRAL_LUMINANCE, Atlas
from mtl_plugins.synthetic.streets.camera import Camera, Ground
from mtl_plugins.synthetic.streets.faces import FaceList
from mtl_plugins.synthetic.streets.labels import SKY

GROUND_FACE, SKY_FACE, FIRST_FACE = 0, 1, 2
MIN_INVERSE_DEPTH = 1 / 1500.0
NEAR = 0.4
SUBPIXEL_BITS = 4


class Canvas:
    """Flat images of ``height * width`` pixels: uint8 ``label``, int64 ``entry`` of the palette, float32 ``brightness``."""

    def __init__(self, height: int, width: int) -> None:
        self.shape = height, width
        self.label = np.full(height * width, SKY, np.uint8)
        self.entry = np.zeros(height * width, np.int64)
        self.brightness = np.ones(height * width, np.float32)
        self._rows: list[np.ndarray] = []
        self._count = 0

    def add_colours(self, rows: np.ndarray) -> int:
        """Append RGB rows ``(K, 3)`` to the palette; returns the number of the first."""
        self._rows.append(np.asarray(rows, np.float32))
        self._count += len(rows)
        return self._count - len(rows)

    def planes(self) -> list[np.ndarray]:
        """The red, green and blue images ``(H, W)``, float32."""
        palette = np.concatenate(self._rows)
        return [(palette[:, c].take(self.entry) * self.brightness).reshape(self.shape) for c in range(3)]


@dataclass
class Buffers:
    """The result of pass 1: ``inverse_depth (H, W)`` float32 (0 = sky), ``face (H, W)`` int64, ``beyond_hinge (H, W)`` bool."""

    inverse_depth: np.ndarray
    face: np.ndarray
    beyond_hinge: np.ndarray


def project_polygons(camera: Camera, corners: np.ndarray) -> list[np.ndarray | None]:
    """Pixel polygons of planar world polygons ``(N, K, 3)``, cut off at the near plane; None where they miss the image.

    Each is ``(K', 2)`` int32, in sixteenths of a pixel, writable.
    """
    points = camera.to_camera(corners)
    in_front = (points[..., 2] > NEAR).sum(1)
    whole = in_front == corners.shape[1]
    pixels = camera.project(np.where(points[..., 2:] > NEAR, points, (0, 0, 1)))
    low, high = pixels.min(1), pixels.max(1)
    outside = whole & ((high < 0).any(1) | (low[:, 0] > camera.width) | (low[:, 1] > camera.height))
    polygons: list[np.ndarray | None] = [None] * len(corners)
    fixed = fixed_point(pixels)
    for k in np.flatnonzero(whole & ~outside).tolist():
        polygons[k] = fixed[k]
    for k in np.flatnonzero((in_front > 0) & ~whole).tolist():
        polygons[k] = fixed_point(camera.project(clip_near(points[k])))
    return polygons


def fixed_point(pixels: np.ndarray) -> np.ndarray:
    """Pixel coordinates as OpenCV draws them: int32 with `SUBPIXEL_BITS` of fraction, bounded to stay in its range."""
    return np.rint(np.clip(pixels, -20000, 20000) * (1 << SUBPIXEL_BITS)).astype(np.int32)


def clip_near(points: np.ndarray) -> np.ndarray:
    """The part of a convex polygon of camera points ``(K, 3)`` that lies in front of the near plane."""
    kept = []
    for a, b in zip(points, np.roll(points, -1, axis=0), strict=True):
        if a[2] > NEAR:
            kept.append(a)
        if (a[2] > NEAR) != (b[2] > NEAR):
            kept.append(a + (b - a) * ((NEAR - a[2]) / (b[2] - a[2])))
    return np.array(kept)


class Rasteriser:
    """Fills polygons into the buffers with a depth test."""

    def __init__(self, buffers: Buffers) -> None:
        self.buffers = buffers
        height, width = buffers.face.shape
        self._mask = np.zeros((height, width), np.uint8)
        self._x = np.arange(width, dtype=np.float32)
        self._y = np.arange(height, dtype=np.float32)[:, None]

    def draw(self, polygon: np.ndarray, plane_map: np.ndarray, nearest: float, number: int, cut_out: tuple | None) -> None:
        """Draw a face from its corners ``(K, 2)`` in sixteenths of a pixel and the greatest inverse depth that it has.

        ``cut_out`` is atlas, texture, repeats and texels per pixel at 1 m, for a face with holes.
        """
        height, width = self.buffers.face.shape
        left, top, across, down = cv2.boundingRect(polygon)
        x0, y0 = max(left >> 4, 0), max(top >> 4, 0)
        x1, y1 = min((left + across >> 4) + 2, width), min((top + down >> 4) + 2, height)
        if x0 >= x1 or y0 >= y1:
            return
        a, b, c = plane_map[2].tolist()
        inverse_depth = (self._x[x0:x1] * a + c) + self._y[y0:y1] * b
        # A polygon covers up to a pixel more than the face, where a plane seen edge-on would run up to the camera.
        np.minimum(inverse_depth, nearest, out=inverse_depth)
        mask = self._mask[: y1 - y0, : x1 - x0]
        mask.fill(0)
        polygon -= (x0 << 4, y0 << 4)
        cv2.fillConvexPoly(mask, polygon, 1, shift=SUBPIXEL_BITS)
        target = self.buffers.inverse_depth[y0:y1, x0:x1]
        won = mask.view(bool)
        won &= inverse_depth > target
        if cut_out is not None:
            if not won.any():
                return
            won &= self._opacity(plane_map, inverse_depth, (x0, x1, y0, y1), *cut_out)
        np.copyto(target, inverse_depth, where=won)
        np.copyto(self.buffers.face[y0:y1, x0:x1], number, where=won)

    def _opacity(self, plane_map, inverse_depth, box, atlas: Atlas, texture: int, repeat, texels_per_pixel: float) -> np.ndarray:
        """Opacity of a cut-out at each pixel of a box, at the level of detail of its middle."""
        middle = max(float(inverse_depth[inverse_depth.shape[0] // 2, inverse_depth.shape[1] // 2]), 1e-4)
        level = int(math.log2(max(texels_per_pixel / middle, 1.0)) + 0.3)
        opaque = atlas.opacity(texture, min(level, LEVELS - 1))
        x0, x1, y0, y1 = box
        rows, columns = opaque.shape
        if repeat == (1.0, 1.0):
            # The plane's map in texels, and from the corner of the box.
            to_texel = []
            depth_row = plane_map[2].tolist()
            for row, scale in zip(plane_map[:2].tolist(), (columns, rows), strict=True):
                to_texel.append([scale * value - 0.5 * bottom for value, bottom in zip(row, depth_row, strict=True)])
            matrix = np.array([[a, b, a * x0 + b * y0 + c] for a, b, c in (*to_texel, depth_row)])
            flags = cv2.INTER_NEAREST | cv2.WARP_INVERSE_MAP
            size = x1 - x0, y1 - y0
            return cv2.warpPerspective(opaque.view(np.uint8), matrix, size, flags=flags, borderMode=cv2.BORDER_REPLICATE).view(
                bool
            )
        depth = 1 / np.maximum(inverse_depth, 1e-4)
        (a, b, c), (d, e, f) = plane_map[0] * (repeat[0] * columns), plane_map[1] * (repeat[1] * rows)
        u = ((self._x[x0:x1] * np.float32(a) + np.float32(c)) + self._y[y0:y1] * np.float32(b)) * depth
        v = ((self._x[x0:x1] * np.float32(d) + np.float32(f)) + self._y[y0:y1] * np.float32(e)) * depth
        u, v = np.clip(u, 0, repeat[0] * columns - 0.01), np.clip(v, 0, repeat[1] * rows - 0.01)
        return opaque[v.astype(np.int32) & (rows - 1), u.astype(np.int32) & (columns - 1)]


@dataclass
class FaceArrays:
    """The faces as pass 2 needs them: ``maps (N, 3, 3)`` of pixels to texture, ``normal (N, 3)`` toward the viewer in world axes,
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
