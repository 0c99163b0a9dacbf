"""Pass 1 of the renderer: polygons into the z-buffer."""

import math
from dataclasses import dataclass

import cv2
import numpy as np

from mtl_plugins.synthetic.streets.atlas import LEVELS, Atlas
from mtl_plugins.synthetic.streets.camera import Camera

NEAR = 0.4
SUBPIXEL_BITS = 4


@dataclass
class Buffers:
    """What pass 1 leaves: ``inverse_depth (H, W)`` float32 (0 = sky), ``face (H, W)`` int64, ``beyond_hinge (H, W)`` bool."""

    inverse_depth: np.ndarray
    face: np.ndarray
    beyond_hinge: np.ndarray


def project_polygons(camera: Camera, corners: np.ndarray) -> list[np.ndarray | None]:
    """Pixel polygons of planar world polygons ``(N, K, 3)``, cut off at the near plane; None where they miss the image.

    Returns:
        ``(K', 2)`` int32 each, in sixteenths of a pixel, writable.
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
        """Draw a face.

        Args:
            polygon: ``(K, 2)`` int32 corners in sixteenths of a pixel.
            nearest: Greatest inverse depth the face has.
            cut_out: Atlas, texture, repeats and texels per pixel at 1 m, for a face with holes.
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
