"""A texture atlas of luminance and material, so that one drawing serves any number of colours and classes.

A texel holds a luminance (128 = unchanged colour), a material number 0..7 and an opacity. What colour and which class a
material has is decided per object by its *paint* (see `faces.py`). Textures have power-of-two sides and a pyramid of
``LEVELS`` halvings; all of them lie one after the other in flat arrays, so that a whole image is textured by one gather.
"""

from collections import defaultdict

import cv2
import numpy as np

LEVELS = 6
MATERIALS = 8
NEUTRAL_LUMINANCE = 128.0


class Atlas:
    """Collects textures by name, several variants under the same name; `freeze` turns them into flat arrays.

    Attributes:
        texels: ``(T,)`` uint16, ``luminance * 8 + material``.
        opaque: ``(T,)`` bool.
        offset, width, height: ``(N, LEVELS)`` int64, position and size of level ``l`` of texture ``n``.
        variants: name -> list of texture numbers.
    """

    def __init__(self) -> None:
        self.variants: dict[str, list[int]] = defaultdict(list)
        self._levels: list[list[tuple[np.ndarray, np.ndarray]]] = []

    def add(self, name: str, luminance: np.ndarray, material: np.ndarray | int = 0, opaque: np.ndarray | None = None) -> int:
        """Add a texture to the group ``name`` and return its number; its first row is its upper edge.

        ``luminance`` ``(H, W)`` is 0..255 with sides that are powers of two, ``material`` ``(H, W)`` of 0..7 or one number,
        ``opaque`` None without holes.
        """
        shape = luminance.shape
        material = np.broadcast_to(np.asarray(material, np.uint8), shape).copy()
        coverage = np.ones(shape, np.float32) if opaque is None else opaque.astype(np.float32)
        if opaque is not None and not opaque.all():
            material, luminance = _grow_into_holes(material, luminance, opaque)
        luminance, material, coverage = (np.flipud(a) for a in (luminance.astype(np.float32), material, coverage))
        levels = []
        for _ in range(LEVELS):
            texels = np.clip(luminance, 0, 255).astype(np.uint16) * MATERIALS + material
            levels.append((texels, coverage > 0.38))
            if min(luminance.shape) > 1:
                luminance, coverage = (_halve(a) for a in (luminance, coverage))
                material = material[1::2, 1::2]
        self._levels.append(levels)
        self.variants[name].append(len(self._levels) - 1)
        return len(self._levels) - 1

    def freeze(self) -> 'Atlas':
        shapes = np.array([[texels.shape for texels, _ in levels] for levels in self._levels])
        self.height, self.width = shapes[..., 0], shapes[..., 1]
        sizes = (self.height * self.width).ravel()
        self.offset = (np.cumsum(sizes) - sizes).reshape(self.height.shape)
        self.texels = np.concatenate([texels.ravel() for levels in self._levels for texels, _ in levels])
        self.opaque = np.concatenate([opaque.ravel() for levels in self._levels for _, opaque in levels])
        return self

    def opacity(self, texture: int, level: int) -> np.ndarray:
        """``(H_l, W_l)`` bool, first row = lower edge."""
        return self._levels[texture][level][1]


def _halve(image: np.ndarray) -> np.ndarray:
    return (image[::2, ::2] + image[1::2, ::2] + image[::2, 1::2] + image[1::2, 1::2]) / 4


def _grow_into_holes(material: np.ndarray, luminance: np.ndarray, opaque: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Give transparent texels the material of the nearest opaque one: coarser levels then never show a foreign material."""
    _, nearest = cv2.distanceTransformWithLabels((~opaque).astype(np.uint8), cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL)
    ys, xs = np.nonzero(opaque)
    order = nearest[ys, xs]
    source = np.zeros(nearest.max() + 1, np.int64)
    source[order] = np.arange(len(ys))
    pick = source[nearest]
    return material[ys[pick], xs[pick]], luminance[ys[pick], xs[pick]]
