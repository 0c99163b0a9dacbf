"""Cut-outs with opacity: trees, people, cycles, signs, lights, fences. Drawn once; colours come from paints."""

import cv2
import numpy as np

from mtl_plugins.datasets.synthetic.atlas import Atlas
from mtl_plugins.datasets.synthetic.surfaces import smooth_noise

SKIN, HAIR, SHIRT, TROUSERS, SHOES, BAG = range(6)
MACHINE, TYRE, METAL, LAMP = 4, 5, 6, 7  # Materials of cycles; 0..3 of a rider's cut-out are the rider's.


class Sketch:
    """A small drawing surface: luminance, material and opacity, in units of the whole picture (x right, y down, 0..1).

    Drawn at twice the size with rounded strokes, so that edges are smooth when it is halved.
    """

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
    _signs(atlas)
    _traffic_light(atlas)
    _fences(atlas, rng)
    _skyline(atlas, rng)
    atlas.add('pole', np.repeat(150 - 55 * np.abs(np.linspace(-1, 1, 16) + 0.3)[None], 16, 0))
    triangle = np.abs(np.arange(64)[None] - 31.5) < np.arange(1, 65)[:, None] / 2
    atlas.add('gable', np.full((64, 64), 128.0), 0, triangle)


def _leafy(luminance: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    size = max(luminance.shape)
    crop = (slice(0, luminance.shape[0]), slice(0, luminance.shape[1]))
    light = smooth_noise(rng, size, 0.9)[crop]
    return luminance + 22 * light + 12 * smooth_noise(rng, size, 0.1)[crop], light


def _tree(atlas: Atlas, rng: np.random.Generator) -> None:
    """Material 0 dark leaves, 1 light leaves, 2 trunk."""
    sketch = Sketch(128, 128)
    lean, fork = rng.uniform(-0.05, 0.05), rng.uniform(0.5, 0.65)
    thickness = rng.uniform(0.035, 0.07)
    sketch.stroke([(0.5, 1.0), (0.5 + lean, fork), (0.5 + lean, 0.35)], thickness, 2, 110)
    for side in (-1, 1):
        sketch.stroke([(0.5 + lean, fork), (0.5 + side * rng.uniform(0.1, 0.25), fork - 0.18)], thickness * 0.6, 2, 105)
    trunk = sketch.material.copy()
    yy, xx = np.mgrid[:128, :128] / 128.0
    field = np.full((128, 128), -9.0)
    shading = np.full((128, 128), 128.0)
    for _ in range(int(rng.integers(9, 16))):
        angle, reach = rng.uniform(0, 2 * np.pi), rng.uniform(0, 0.26)
        centre_x, centre_y, radius = 0.5 + lean + np.cos(angle) * reach, 0.33 + np.sin(angle) * reach * 0.8, rng.uniform(0.11, 0.2)
        blob = 1 - np.hypot(xx - centre_x, yy - centre_y) / radius
        shade = 128 - 120 * (yy - centre_y) - 50 * (xx - centre_x)
        shading = np.where(blob > field, shade, shading)
        field = np.maximum(field, blob)
    crown = field + 0.16 * smooth_noise(rng, 128, 0.7) > 0.1
    luminance, light = _leafy(shading, rng)
    material = np.where(crown, 1 + (light > 0.3), trunk).astype(np.uint8)
    atlas.add('tree', np.where(crown, luminance, sketch.luminance), np.maximum(material, 1) - 1, material > 0)


def _conifer(atlas: Atlas, rng: np.random.Generator) -> None:
    yy, xx = np.mgrid[:128, :64] / np.array([128.0, 64.0]).reshape(2, 1, 1)
    tiers = rng.integers(5, 9)
    width = 0.46 * yy * (0.75 + 0.35 * ((yy * tiers) % 1.0)) + 0.02
    crown = (np.abs(xx - 0.5) + 0.025 * smooth_noise(rng, 128, 0.4)[:, :64] < width) & (yy < 0.92)
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
    back = rng.random() < 0.5
    sketch.polygon([(0.39, 0.08), (0.4, 0.035), (0.5, 0.012), (0.6, 0.035), (0.61, 0.08), *([(0.59, 0.12), (0.41, 0.12)] if back else [(0.5, 0.055)])],
                   HAIR, 120)  # fmt: skip
    sketch.store(atlas, 'person')


def _signs(atlas: Atlas) -> None:
    """Material 0 field, 1 rim, 2 symbol, 3 grey back."""

    def store(name: str, outline, symbol, rim: float) -> None:
        sketch = Sketch(32, 32)
        outline = np.asarray(outline)
        sketch.polygon(outline, 1, 128, rounded=False)
        sketch.polygon((outline - outline.mean(0)) * rim + outline.mean(0), 0, 132, rounded=False)
        for part in symbol:
            sketch.polygon(part, 2, 128, rounded=False)
        sketch.store(atlas, name)

    angles = np.linspace(0, 2 * np.pi, 24, endpoint=False)
    circle = 0.5 + 0.49 * np.stack([np.cos(angles), np.sin(angles)], -1)
    octagon = circle[1::3]
    up = [(0.5, 0.03), (0.98, 0.95), (0.02, 0.95)]
    down = [(0.02, 0.05), (0.98, 0.05), (0.5, 0.97)]
    square = [(0.03, 0.03), (0.97, 0.03), (0.97, 0.97), (0.03, 0.97)]
    diamond = [(0.5, 0.01), (0.99, 0.5), (0.5, 0.99), (0.01, 0.5)]
    bar = [[(0.2, 0.42), (0.8, 0.42), (0.8, 0.58), (0.2, 0.58)]]
    arrow = [[(0.5, 0.2), (0.72, 0.5), (0.57, 0.5), (0.57, 0.8), (0.43, 0.8), (0.43, 0.5), (0.28, 0.5)]]
    digits = [[(0.28, 0.3), (0.44, 0.3), (0.44, 0.7), (0.28, 0.7)], [(0.54, 0.3), (0.72, 0.3), (0.72, 0.7), (0.54, 0.7)]]
    store('sign red', up, [[(0.46, 0.45), (0.54, 0.45), (0.54, 0.8), (0.46, 0.8)]], 0.62)
    store('sign red', down, [], 0.6)
    store('sign red', circle, digits, 0.72)
    store('sign red', circle, [], 0.7)
    store('sign full', octagon, bar, 0.9)
    store('sign full', circle, bar, 0.95)
    store('sign full', circle, arrow, 0.94)
    store('sign full', square, arrow, 0.92)
    store('sign full', square, digits, 0.92)
    store('sign full', diamond, [], 0.7)
    lines = [[(0.08, y), (x, y), (x, y + 0.12), (0.08, y + 0.12)] for x, y in ((0.6, 0.15), (0.75, 0.42), (0.5, 0.69))]
    store('sign board', square, [*lines, [(0.85, 0.2), (0.95, 0.35), (0.88, 0.35), (0.88, 0.8), (0.82, 0.8), (0.82, 0.35), (0.76, 0.35)]], 0.95)


def _traffic_light(atlas: Atlas) -> None:
    """Material 0 housing, 1..3 the red, yellow and green lamp."""
    sketch = Sketch(32, 64)
    sketch.polygon([(0.1, 0.02), (0.9, 0.02), (0.95, 0.06), (0.95, 0.94), (0.9, 0.98), (0.1, 0.98), (0.05, 0.94), (0.05, 0.06)], 0, 120)
    for k in range(3):
        sketch.ellipse((0.5, 0.19 + 0.31 * k), (0.31, 0.135), 0, 70, rounded=False)
        sketch.ellipse((0.5, 0.2 + 0.31 * k), (0.25, 0.115), 1 + k, 135, rounded=False)
    sketch.store(atlas, 'traffic light')


def _fences(atlas: Atlas, rng: np.random.Generator) -> None:
    """4 m of fence per picture; material 0 bars, 1 posts."""
    for gap, bar in ((8, 5), (8, 4), (16, 10)):
        sketch = Sketch(256, 64)
        sketch.polygon([(0, 0.18), (1, 0.18), (1, 0.26), (0, 0.26)], 0, 120, rounded=False)
        sketch.polygon([(0, 0.78), (1, 0.78), (1, 0.86), (0, 0.86)], 0, 120, rounded=False)
        for x in range(0, 256, gap):
            top = 0.04 + 0.03 * (x // gap % 2)
            sketch.polygon([(x / 256, top), ((x + bar - 1) / 256, top), ((x + bar - 1) / 256, 0.99), (x / 256, 0.99)], 0, 128 + 10 * rng.uniform(-1, 1), rounded=False)
        for x in (0, 0.5):
            sketch.polygon([(x, 0), (x + 0.03, 0), (x + 0.03, 1), (x, 1)], 1, 110, rounded=False)
        sketch.store(atlas, 'fence')
    sketch = Sketch(256, 64)
    y, x = np.mgrid[:64, :256]
    mesh = ((x + y) % 8 < 2) | ((x - y) % 8 < 2)
    sketch.material[mesh], sketch.luminance[mesh] = 1, 125
    for x in (0, 0.5):
        sketch.polygon([(x, 0), (x + 0.025, 0), (x + 0.025, 1), (x, 1)], 1, 110, rounded=False)
    sketch.polygon([(0, 0), (1, 0), (1, 0.06), (0, 0.06)], 1, 120, rounded=False)
    sketch.store(atlas, 'fence')


def _skyline(atlas: Atlas, rng: np.random.Generator) -> None:
    x = np.arange(256)
    for _ in range(3):
        heights = np.repeat(rng.uniform(0.2, 0.95, 64), rng.integers(4, 9, 64))[:256]
        houses = np.arange(64)[::-1, None] / 64 < heights[x][None]
        atlas.add('houses', 128 - 30 * ((x[None] % 4 < 2) & (np.arange(64)[:, None] % 4 < 2)), 0, houses)
        ridge = 0.45 + 0.14 * smooth_noise(rng, 256, 1.2)[0] + 0.05 * smooth_noise(rng, 256, 0.3)[1]
        treetops = np.arange(64)[::-1, None] / 64 < ridge[None]
        atlas.add('treeline', 124 + 22 * smooth_noise(rng, 256, 0.7)[:64], 0, treetops)
