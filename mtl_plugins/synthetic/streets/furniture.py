"""Cut-outs of street furniture and of the skyline: signs, traffic lights, fences, gables, poles."""

import numpy as np

from mtl_plugins.synthetic.streets.atlas import Atlas
from mtl_plugins.synthetic.streets.sprites import Sketch
from mtl_plugins.synthetic.streets.surfaces import smooth_noise


def add_furniture(atlas: Atlas, rng: np.random.Generator) -> None:
    """Every cut-out of this module under its name."""
    _signs(atlas)
    _traffic_light(atlas)
    _fences(atlas, rng)
    _skyline(atlas, rng)
    atlas.add('pole', np.repeat(150 - 55 * np.abs(np.linspace(-1, 1, 16) + 0.3)[None], 16, 0))
    triangle = np.abs(np.arange(64)[None] - 31.5) < np.arange(1, 65)[:, None] / 2
    atlas.add('gable', np.full((64, 64), 128.0), 0, triangle)


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
