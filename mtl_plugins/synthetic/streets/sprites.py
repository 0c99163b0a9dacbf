"""Cut-outs of plants, people, vehicles and other things in a street. Drawn once; colours come from paints."""

import cv2
import numpy as np

from mtl_plugins.synthetic.streets.atlas import Atlas
from mtl_plugins.synthetic.streets.surfaces import smooth_noise

SKIN, HAIR, SHIRT, TROUSERS, SHOES, BAG = range(6)
MACHINE, TYRE, METAL, LAMP = 4, 5, 6, 7  # Materials of cycles; 0..3 of a rider's cut-out are the rider's.

_TREE = 256  # Texels along a tree: trees come near, and are the tallest things that do.
# World size (width, height) in metres of every cut-out of this module.
SIZES = {
    'bicycle side': (1.8, 1.1),
    'bicycle along': (0.6, 1.1),
    'motorcycle side': (2.2, 1.25),
    'motorcycle along': (0.85, 1.25),
    'cyclist side': (1.8, 1.8),
    'cyclist along': (0.75, 1.8),
    'biker side': (2.2, 1.75),
    'biker along': (0.95, 1.75),
}


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
    _signs(atlas)
    _traffic_light(atlas)
    _fences(atlas, rng)
    _skyline(atlas, rng)
    atlas.add('pole', np.repeat(150 - 55 * np.abs(np.linspace(-1, 1, 16) + 0.3)[None], 16, 0))
    triangle = np.abs(np.arange(64)[None] - 31.5) < np.arange(1, 65)[:, None] / 2
    atlas.add('gable', np.full((64, 64), 128.0), 0, triangle)
    for _ in range(3):
        for name in SIZES:
            _Cycle(rng, name).sketch.store(atlas, name)


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
    store(
        'sign board',
        square,
        [*lines, [(0.85, 0.2), (0.95, 0.35), (0.88, 0.35), (0.88, 0.8), (0.82, 0.8), (0.82, 0.35), (0.76, 0.35)]],
        0.95,
    )


def _traffic_light(atlas: Atlas) -> None:
    """Material 0 housing, 1..3 the red, yellow and green lamp."""
    sketch = Sketch(32, 64)
    sketch.polygon(
        [(0.1, 0.02), (0.9, 0.02), (0.95, 0.06), (0.95, 0.94), (0.9, 0.98), (0.1, 0.98), (0.05, 0.94), (0.05, 0.06)], 0, 120
    )
    for k in range(3):
        sketch.ellipse((0.5, 0.19 + 0.31 * k), (0.31, 0.135), 0, 70, rounded=False)
        sketch.ellipse((0.5, 0.2 + 0.31 * k), (0.25, 0.115), 1 + k, 135, rounded=False)
    sketch.store(atlas, 'traffic light')


def _fences(atlas: Atlas, rng: np.random.Generator) -> None:
    """4 m of fence per picture; material 0 bars, 1 posts."""
    for gap, bar in ((8, 5), (8, 4), (16, 10)):
        sketch = Sketch(256, 64)
        sketch.box(0, 1, 0.18, 0.26, 0, 120)
        sketch.box(0, 1, 0.78, 0.86, 0, 120)
        for x in range(0, 256, gap):
            top = 0.04 + 0.03 * (x // gap % 2)
            sketch.box(x / 256, (x + bar - 1) / 256, top, 0.99, 0, 128 + 10 * rng.uniform(-1, 1))
        for x in (0, 0.5):
            sketch.box(x, x + 0.03, 0, 1, 1, 110)
        sketch.store(atlas, 'fence')
    sketch = Sketch(256, 64)
    y, x = np.mgrid[:64, :256]
    mesh = ((x + y) % 16 < 4) | ((x - y) % 16 < 4)
    sketch.material[mesh], sketch.luminance[mesh] = 1, 125
    for x in (0, 0.5):
        sketch.box(x, x + 0.025, 0, 1, 1, 110)
    sketch.box(0, 1, 0, 0.06, 1, 120)
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


class _Cycle:
    """Draws a cut-out of `SIZES`, perhaps with a rider, in coordinates of the machine (y: 0 its top, 1 the ground).

    Materials: 0..3 rider (skin, hair or helmet, shirt, trousers), 4..7 machine (frame, tyre, metal, lamp).
    """

    def __init__(self, rng: np.random.Generator, name: str) -> None:
        kind, view = name.split()
        self.rng, (self.width, height) = rng, SIZES[name]
        self.sketch = Sketch(64 if view == 'along' else 128, 64 if height < 1.5 else 128)
        is_bicycle = kind in ('bicycle', 'cyclist')
        self.top = 1 - (1.1 if is_bicycle else 1.25) / height
        self.is_ridden, self.lean = kind in ('cyclist', 'biker'), rng.uniform(-0.03, 0.03)
        sides = (self._bicycle_side, self._bicycle_along) if is_bicycle else (self._motorcycle_side, self._motorcycle_along)
        sides[view == 'along']()

    def at(self, *points: tuple[float, float]) -> list[tuple[float, float]]:
        return [(x, self.top + y * (1 - self.top)) for x, y in points]

    def stroke(self, points, thickness: float, material: int, luminance: float = 128) -> None:
        self.sketch.stroke(self.at(*points), thickness, material, luminance)

    def wheel(self, x: float, y: float, radius_x: float, radius_y: float, ring: float, material: int = TYRE) -> None:
        (centre,) = self.at((x, y))
        self.sketch.ellipse(centre, (radius_x, radius_y * (1 - self.top)), material, 120, ring=ring)

    def _bicycle_side(self) -> None:
        radius_x, radius_y, height = 0.34 / self.width, 0.34 / 1.1, 1.1
        for x in (0.2, 0.8):
            self.wheel(x, 1 - radius_y, radius_x * 0.92, radius_y * 0.92, ring=0.035)
            self.wheel(x, 1 - radius_y, 0.02, 0.03, ring=0.02, material=METAL)
            for angle in np.arange(4) * np.pi / 4:
                dx, dy = radius_x * 0.85 * np.cos(angle), radius_y * 0.85 * np.sin(angle)
                self.stroke([(x - dx, 1 - radius_y - dy), (x + dx, 1 - radius_y + dy)], 0.01, METAL, 95)
        hub, crank, seat, head = 1 - radius_y, 0.7, (0.36, 0.22), (0.7, 0.2)
        frame = [(0.2, hub), (0.46, crank), head, (0.38, 0.32), (0.2, hub)]
        self.stroke(frame, 0.035, MACHINE, 130)
        self.stroke([(0.46, crank), (0.37, 0.25)], 0.035, MACHINE, 120)
        self.stroke([(0.8, hub), (0.68, 0.08)], 0.035, MACHINE, 130)
        self.stroke([(0.62, 0.06), (0.72, 0.07)], 0.035, METAL, 100)
        self.stroke([(0.3, 0.2), (0.42, 0.21)], 0.05, TYRE, 110)
        if self.rng.random() < 0.5:
            self.stroke([(0.08, 0.3), (0.3, 0.3)], 0.03, METAL, 110)
        if self.is_ridden:
            self._rider_side(self.at(seat, (0.69, 0.1), (0.5, crank + 0.08)), upright=height / 1.8)

    def _rider_side(self, joints: list[tuple[float, float]], upright: float) -> None:
        """``joints``: hip, hand, foot in picture coordinates; the head keeps the distance a grown body has."""
        sketch = self.sketch
        hip, hand, foot = joints
        shoulder = (hip[0] + 0.13 + self.lean, hip[1] - 0.28 * upright / 0.61)
        knee = ((hip[0] + foot[0]) / 2 + 0.14, (hip[1] + foot[1]) / 2 - 0.02)
        sketch.stroke([hip, (knee[0] - 0.08, knee[1] + 0.04), (foot[0] - 0.08, foot[1] - 0.04)], 0.075, TROUSERS, 95)
        sketch.stroke([hip, knee, foot], 0.085, TROUSERS, 120)
        sketch.stroke([foot, (foot[0] + 0.06, foot[1] + 0.005)], 0.05, HAIR, 90)
        sketch.stroke([hip, shoulder], 0.15, SHIRT, 130)
        sketch.stroke(
            [shoulder, ((shoulder[0] + hand[0]) / 2 - 0.02, (shoulder[1] + hand[1]) / 2 + 0.05), hand], 0.06, SHIRT, 110
        )
        sketch.ellipse(hand, (0.025, 0.02), SKIN)
        head = (shoulder[0] + 0.05, max(shoulder[1] - 0.095, 0.075))
        sketch.ellipse(head, (0.06, 0.065), SKIN, 130)
        sketch.polygon([(head[0] - 0.07, head[1] + 0.01), (head[0] - 0.05, head[1] - 0.055), (head[0] + 0.02, head[1] - 0.07),
                        (head[0] + 0.065, head[1] - 0.02)], HAIR, 130)  # fmt: skip

    def _bicycle_along(self) -> None:
        self.stroke([(0.5, 0.45), (0.5, 0.96)], 0.09, TYRE, 110)
        self.stroke([(0.5, 0.15), (0.5, 0.6)], 0.07, MACHINE, 130)
        self.stroke([(0.5 - 0.28 / self.width, 0.1), (0.5 + 0.28 / self.width, 0.1)], 0.06, METAL, 115)
        self.sketch.ellipse(self.at((0.5, 0.32))[0], (0.06, 0.025), LAMP, 150)
        if self.is_ridden:
            self._rider_along(0.28 / self.width)

    def _rider_along(self, reach: float) -> None:
        sketch = self.sketch
        (hip_y,), (pedal_low,), (pedal_high,) = ([y for _, y in self.at((0, v))] for v in (0.15, 0.86, 0.62))
        for side, pedal in ((-1, pedal_low), (1, pedal_high)):
            sketch.stroke(
                [(0.5 + side * 0.1, hip_y), (0.5 + side * 0.2, (hip_y + pedal) / 2), (0.5 + side * 0.13, pedal)],
                0.15,
                TROUSERS,
                115,
            )
        shoulder = max(hip_y - 0.31, 0.17)
        for side in (-1, 1):
            sketch.stroke([(0.5 + side * 0.22, shoulder + 0.03), (0.5 + side * (reach + 0.03), (shoulder + hip_y) / 2),
                           (0.5 + side * reach * 0.9, self.at((0, 0.08))[0][1])], 0.12, SHIRT, 110)  # fmt: skip
        sketch.polygon([(0.25, shoulder + 0.03), (0.38, shoulder - 0.02), (0.62, shoulder - 0.02), (0.75, shoulder + 0.03),
                        (0.68, hip_y + 0.03), (0.32, hip_y + 0.03)], SHIRT, 132)  # fmt: skip
        sketch.ellipse((0.5, shoulder - 0.08), (0.15, 0.065), SKIN, 130)
        low = 0.0 if self.rng.random() < 0.5 else 0.05
        sketch.ellipse((0.5, shoulder - 0.1 + 0.4 * low), (0.17, 0.055 + low * 0.6), HAIR, 130)

    def _motorcycle_side(self) -> None:
        sketch = self.sketch
        radius_x, radius_y = 0.31 / self.width, 0.31 / 1.25
        for x in (0.17, 0.82):
            self.wheel(x, 1 - radius_y, radius_x * 0.8, radius_y * 0.8, ring=0.075)
            self.wheel(x, 1 - radius_y, radius_x * 0.3, radius_y * 0.3, ring=0.05, material=METAL)
        hub = 1 - radius_y
        self.stroke([(0.82, hub), (0.72, 0.18)], 0.05, METAL, 130)
        sketch.polygon(self.at((0.3, 0.6), (0.66, 0.55), (0.64, 0.88), (0.36, 0.9)), METAL, 85)
        self.stroke([(0.17, hub), (0.45, 0.85), (0.3, 0.86), (0.06, 0.74)], 0.04, METAL, 120)
        sketch.polygon(
            self.at(
                (0.03, 0.42), (0.14, 0.38), (0.42, 0.46), (0.5, 0.34), (0.64, 0.27), (0.72, 0.34), (0.66, 0.58), (0.34, 0.66)
            ),
            MACHINE,
            130,
        )
        sketch.polygon(self.at((0.12, 0.38), (0.2, 0.3), (0.46, 0.4), (0.44, 0.48)), TYRE, 120)
        if self.rng.random() < 0.6:
            sketch.polygon(self.at((0.66, 0.5), (0.68, 0.2), (0.76, 0.02), (0.8, 0.25), (0.86, 0.42), (0.76, 0.55)), MACHINE, 140)
        sketch.ellipse(self.at((0.81, 0.32))[0], (0.035, 0.05), LAMP, 150)
        sketch.ellipse(self.at((0.035, 0.46))[0], (0.02, 0.03), LAMP, 80)
        self.stroke([(0.62, 0.14), (0.73, 0.16)], 0.035, METAL, 100)
        if self.is_ridden:
            self._rider_side(self.at((0.32, 0.32), (0.66, 0.14), (0.46, 0.86)), upright=0.55)

    def _motorcycle_along(self) -> None:
        sketch = self.sketch
        self.stroke([(0.5, 0.5), (0.5, 0.93)], 0.2, TYRE, 110)
        sketch.polygon(self.at((0.3, 0.3), (0.7, 0.3), (0.74, 0.5), (0.66, 0.75), (0.34, 0.75), (0.26, 0.5)), MACHINE, 130)
        self.stroke([(0.5 - 0.36 / self.width, 0.17), (0.5 + 0.36 / self.width, 0.17)], 0.07, METAL, 110)
        for side in (-1, 1):
            self.stroke([(0.5 + side * 0.33 / self.width, 0.17), (0.5 + side * 0.38 / self.width, 0.02)], 0.05, METAL, 105)
            self.stroke([(0.5 + side * 0.3, 0.62), (0.5 + side * 0.3, 0.8)], 0.12, METAL, 95)
        sketch.ellipse(self.at((0.5, 0.4))[0], (0.14, 0.05), LAMP, 150)
        if self.is_ridden:
            self._rider_along(0.33 / self.width)
