"""Cut-outs of what grows and walks: trees, bushes, people. Drawn once; colours come from paints."""

import cv2
import numpy as np

from mtl_plugins.synthetic.streets.atlas import Atlas
from mtl_plugins.synthetic.streets.surfaces import smooth_noise

SKIN, HAIR, SHIRT, TROUSERS, SHOES, BAG = range(6)
MACHINE, TYRE, METAL, LAMP = 4, 5, 6, 7  # Materials of cycles; 0..3 of a rider's cut-out are the rider's.

_TREE = 256  # Texels along a tree: trees come near, and are the tallest things that do.


class Sketch:
    """A small drawing surface: luminance, material and opacity, in units of the whole picture (x right, y down, 0..1)."""

    def __init__(self, width: int, height: int) -> None:
        self.luminance = np.zeros((height, width), np.float32)
        self.material = np.zeros((height, width), np.uint8)
        self.scale = np.array([width, height], np.float64)

    def _fill(self, mask: np.ndarray, material: int, luminance: float, rounded: bool) -> None:
        shade = np.full(mask.shape, luminance, np.float32)
        if rounded and mask.any():
            depth = cv2.distanceTransform(mask, cv2.DIST_L2, 3)
            slope = cv2.Sobel(depth, cv2.CV_32F, 1, 0, ksize=3) - 0.5 * cv2.Sobel(depth, cv2.CV_32F, 0, 1, ksize=3)
            shade += np.clip(slope * 3.5, -26, 26)
        inside = mask > 0
        self.luminance[inside], self.material[inside] = shade[inside], material + 1

    def polygon(self, points, material: int, luminance: float = 128, rounded: bool = True) -> None:
        mask = np.zeros(self.material.shape, np.uint8)
        cv2.fillPoly(mask, [np.rint(np.asarray(points) * self.scale * 16).astype(np.int32)], 1, shift=4)
        self._fill(mask, material, luminance, rounded)

    def box(self, left: float, right: float, top: float, low: float, material: int, luminance: float = 128) -> None:
        self.polygon([(left, top), (right, top), (right, low), (left, low)], material, luminance, rounded=False)

    def stroke(self, points, thickness: float, material: int, luminance: float = 128) -> None:
        """A line with round ends; ``thickness`` in units of the width."""
        mask = np.zeros(self.material.shape, np.uint8)
        pixels = np.rint(np.asarray(points) * self.scale * 16).astype(np.int32)
        cv2.polylines(mask, [pixels], False, 1, max(1, round(thickness * self.scale[0])), shift=4)
        self._fill(mask, material, luminance, rounded=True)

    def ellipse(
        self, centre, radii, material: int, luminance: float = 128, ring: float | None = None, rounded: bool = True
    ) -> None:
        """A disc, or a ring of the given thickness (in units of the width)."""
        mask = np.zeros(self.material.shape, np.uint8)
        centre, axes = (np.rint(np.asarray(v) * self.scale * 16).astype(int) for v in (centre, radii))
        thickness = -1 if ring is None else max(1, round(ring * self.scale[0]))
        angles = np.linspace(0, 2 * np.pi, 40)
        points = np.stack([centre[0] + axes[0] * np.cos(angles), centre[1] + axes[1] * np.sin(angles)], -1)
        points = np.rint(points).astype(np.int32)
        if thickness < 0:
            cv2.fillPoly(mask, [points], 1, shift=4)
        else:
            cv2.polylines(mask, [points], True, 1, thickness, shift=4)
        self._fill(mask, material, luminance, rounded)

    def store(self, atlas: Atlas, name: str) -> int:
        return atlas.add(name, self.luminance, np.maximum(self.material, 1) - 1, self.material > 0)


def add_sprites(atlas: Atlas, rng: np.random.Generator) -> None:
    """Every cut-out of this module under its name."""
    for _ in range(10):
        _tree(atlas, rng)
    for _ in range(4):
        _conifer(atlas, rng)
    for _ in range(6):
        _bush(atlas, rng)
    for _ in range(24):
        _person(atlas, rng)


def _leafy(luminance: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    size = max(luminance.shape)
    crop = (slice(0, luminance.shape[0]), slice(0, luminance.shape[1]))
    light = smooth_noise(rng, size, 0.9)[crop]
    return luminance + 22 * light + 12 * smooth_noise(rng, size, 0.1)[crop], light


def _tree(atlas: Atlas, rng: np.random.Generator) -> None:
    """Material 0 dark leaves, 1 light leaves, 2 trunk."""
    sketch = Sketch(_TREE, _TREE)
    lean, fork = rng.uniform(-0.05, 0.05), rng.uniform(0.5, 0.65)
    thickness = rng.uniform(0.035, 0.07)
    sketch.stroke([(0.5, 1.0), (0.5 + lean, fork), (0.5 + lean, 0.35)], thickness, 2, 110)
    for side in (-1, 1):
        sketch.stroke([(0.5 + lean, fork), (0.5 + side * rng.uniform(0.1, 0.25), fork - 0.18)], thickness * 0.6, 2, 105)
    trunk = sketch.material.copy()
    yy, xx = np.mgrid[:_TREE, :_TREE] / _TREE
    field = np.full((_TREE, _TREE), -9.0)
    shading = np.full((_TREE, _TREE), 128.0)
    for _ in range(int(rng.integers(9, 16))):
        angle, reach = rng.uniform(0, 2 * np.pi), rng.uniform(0, 0.26)
        centre_x, centre_y, radius = (
            0.5 + lean + np.cos(angle) * reach,
            0.33 + np.sin(angle) * reach * 0.8,
            rng.uniform(0.11, 0.2),
        )
        blob = 1 - np.hypot(xx - centre_x, yy - centre_y) / radius
        shade = 128 - 120 * (yy - centre_y) - 50 * (xx - centre_x)
        shading = np.where(blob > field, shade, shading)
        field = np.maximum(field, blob)
    crown = field + 0.16 * smooth_noise(rng, _TREE, 0.75) > 0.1
    luminance, light = _leafy(shading, rng)
    material = np.where(crown, 1 + (light > 0.3), trunk).astype(np.uint8)
    atlas.add('tree', np.where(crown, luminance, sketch.luminance), np.maximum(material, 1) - 1, material > 0)


def _conifer(atlas: Atlas, rng: np.random.Generator) -> None:
    yy, xx = np.mgrid[:_TREE, : _TREE // 2] / np.array([_TREE, _TREE / 2]).reshape(2, 1, 1)
    tiers = rng.integers(5, 9)
    width = 0.46 * yy * (0.75 + 0.35 * ((yy * tiers) % 1.0)) + 0.02
    crown = (np.abs(xx - 0.5) + 0.025 * smooth_noise(rng, _TREE, 0.5)[:, : _TREE // 2] < width) & (yy < 0.92)
    luminance, light = _leafy(128 - 60 * (xx - 0.5) - 30 * ((yy * tiers) % 1.0 - 0.5), rng)
    trunk = (np.abs(xx - 0.5) < 0.07) & (yy >= 0.9)
    material = np.where(crown, (light > 0.6).astype(np.uint8), 2)
    atlas.add('conifer', np.where(crown, luminance, 100), material, crown | trunk)


def _bush(atlas: Atlas, rng: np.random.Generator) -> None:
    yy, xx = np.mgrid[:64, :128] / np.array([64.0, 128.0]).reshape(2, 1, 1)
    outline = 0.3 + 1.6 * (xx - 0.5) ** 2 + 0.07 * smooth_noise(rng, 128, 1.1)[:64] + 0.05 * np.sin(xx * rng.uniform(9, 25))
    luminance, light = _leafy(150 - 70 * yy, rng)
    atlas.add('bush', luminance, (light > 0.4).astype(np.uint8), (yy > outline) & (np.abs(xx - 0.5) < 0.48))


def _person(atlas: Atlas, rng: np.random.Generator) -> None:
    """An upright person, front/back or walking sideways; half as wide as high."""
    sketch = Sketch(64, 128)
    stride, sideways = rng.uniform(0.03, 0.2), rng.random() < 0.5
    broad = 0.15 if sideways else rng.uniform(0.18, 0.22)
    skirt = rng.random() < 0.25
    hip = 0.54
    for side in (-1, 1):
        foot = 0.5 + side * (stride if sideways else 0.1)
        sketch.stroke([(0.5 + side * 0.07, hip), (0.5 + side * (0.5 * stride + 0.06), 0.75), (foot, 0.95)], 0.135, TROUSERS, 118)
        sketch.stroke([(foot - 0.02, 0.972), (foot + 0.06, 0.972)], 0.09, SHOES, 120)
    if skirt:
        sketch.polygon([(0.38, 0.5), (0.62, 0.5), (0.72, 0.72), (0.28, 0.72)], TROUSERS, 135)
    swing = rng.uniform(0.0, 0.2) if sideways else 0.06
    for side in (-1, 1):
        shoulder = 0.5 + side * broad * (0.4 if sideways else 0.95)
        hand = (0.5 + side * (swing if sideways else broad + swing), 0.53)
        sketch.stroke([(shoulder, 0.2), ((shoulder + hand[0]) / 2 + side * 0.02, 0.37), hand], 0.11, SHIRT, 112)
        sketch.ellipse(hand, (0.05, 0.022), SKIN)
    sketch.polygon([(0.5 - broad, 0.19), (0.5 - 0.6 * broad, 0.155), (0.5 + 0.6 * broad, 0.155), (0.5 + broad, 0.19),
                    (0.5 + broad * 0.8, 0.4), (0.5 + broad * 0.85, 0.58), (0.5 - broad * 0.85, 0.58), (0.5 - broad * 0.8, 0.4)],
                   SHIRT, 132)  # fmt: skip
    if rng.random() < 0.4:
        sketch.ellipse((0.5 + (0.16 if sideways else rng.choice([-1, 1]) * 0.24), rng.uniform(0.3, 0.5)), (0.12, 0.08), BAG)
    sketch.stroke([(0.5, 0.17), (0.5, 0.13)], 0.13, SKIN, 110)
    sketch.ellipse((0.5, 0.085), (0.105, 0.062), SKIN, 132)
    neck = [(0.59, 0.12), (0.41, 0.12)] if rng.random() < 0.5 else [(0.5, 0.055)]
    sketch.polygon([(0.39, 0.08), (0.4, 0.035), (0.5, 0.012), (0.6, 0.035), (0.61, 0.08), *neck], HAIR, 120)
    sketch.store(atlas, 'person')
