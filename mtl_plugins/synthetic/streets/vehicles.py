"""Cars, vans, trucks, buses and trams as rigid templates: side silhouettes, and faces along the outline between them.

Materials: 0 body, 1 glass, 2 tyre and black parts, 3 metal, 4 headlight, 5 tail light, 6 plate, 7 second colour.
"""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from mtl_plugins.synthetic.streets.atlas import Atlas
from mtl_plugins.synthetic.streets.faces import Template
from mtl_plugins.synthetic.streets.sprites import Sketch

BODY, GLASS, BLACK, CHROME, HEADLIGHT, TAIL_LIGHT, PLATE, SECOND = range(8)


@dataclass(frozen=True)
class Vehicle:
    """A template with the size of its box in metres (length along the street)."""

    template: Template
    length: float
    width: float
    height: float


# Outlines seen from the right: (share of the length from the tail, share of the height), from tail to nose over the top.
_CAR_OUTLINES = {
    'saloon': ((4.6, 1.8, 1.45), ((0, 0.62), (0.16, 0.68), (0.3, 0.98), (0.56, 1), (0.72, 0.68), (0.98, 0.56), (1, 0.45))),
    'hatchback': ((4.0, 1.75, 1.48), ((0, 0.62), (0.03, 0.7), (0.12, 0.97), (0.54, 1), (0.73, 0.68), (0.97, 0.56), (1, 0.45))),
    'estate': ((4.7, 1.82, 1.5), ((0, 0.6), (0.02, 0.68), (0.1, 0.96), (0.57, 1), (0.73, 0.66), (0.98, 0.55), (1, 0.43))),
    'offroad': ((4.5, 1.9, 1.75), ((0, 0.55), (0.02, 0.65), (0.06, 0.97), (0.58, 1), (0.7, 0.67), (0.98, 0.6), (1, 0.45))),
    'van': ((4.9, 1.95, 2.0), ((0, 0.5), (0.01, 0.6), (0.03, 0.98), (0.68, 1), (0.86, 0.62), (0.98, 0.5), (1, 0.4))),
    'sports': ((4.3, 1.85, 1.28), ((0, 0.66), (0.12, 0.74), (0.36, 0.99), (0.5, 1), (0.68, 0.7), (0.97, 0.55), (1, 0.42))),
}


def build_vehicles(atlas: Atlas) -> dict[str, list[Vehicle]]:
    """Draw the textures into ``atlas``; returns templates by kind: car, truck, bus, tram."""
    glass = _pane(atlas)
    vehicles = {'car': [_car(atlas, size, outline, glass) for size, outline in _CAR_OUTLINES.values()]}
    vehicles['truck'] = [_truck(atlas, cargo) for cargo in ('box', 'tarpaulin', 'flat')]
    vehicles['bus'] = [_coach(atlas, (12.0, 2.55, 3.1), doors) for doors in (2, 3)]
    vehicles['tram'] = [_tram(atlas, sections) for sections in (2, 3)]
    return vehicles


def _pane(atlas: Atlas) -> int:
    sketch = Sketch(32, 32)
    square = [(0, 0), (1, 0), (1, 1), (0, 1)]
    sketch.polygon(square, BODY, 120, rounded=False)
    sketch.polygon([(0.08, 0.08), (0.92, 0.08), (0.96, 0.92), (0.04, 0.92)], GLASS, 120, rounded=False)
    sketch.polygon([(0.5, 0.1), (0.75, 0.1), (0.45, 0.9), (0.2, 0.9)], GLASS, 155, rounded=False)
    return sketch.store(atlas, 'pane')


def _shell(size: tuple[float, float, float], outline, strips: tuple[int, ...], side: int, front: int, rear: int) -> Template:
    """Two silhouettes, upright front and rear cut-outs, and a strip of texture per step of the outline."""
    length, width, height = size
    half, back = width / 2, -length / 2
    points = [(back + s * length, t * height) for s, t in outline]
    nose, tail = points[-1], points[0]
    faces = [
        ((half, 0, back), (0, 0, length), (0, height, 0), side),
        ((-half, 0, back), (0, 0, length), (0, height, 0), side),
        ((half, 0, nose[0] - 0.02), (-width, 0, 0), (0, nose[1], 0), front),
        ((-half, 0, tail[0] + 0.02), (width, 0, 0), (0, tail[1], 0), rear),
    ]
    for ((z0, y0), (z1, y1)), texture in zip(pairwise(points), strips, strict=True):
        faces.append(((-half, y0, z0), (width, 0, 0), (0, y1 - y0, z1 - z0), texture))
    return Template(
        geometry=np.array([face[:3] for face in faces], np.float64),
        textures=tuple(face[3] for face in faces),
        holes=(True,) * 4 + (False,) * (len(faces) - 4),
    )


def _wheels(sketch: Sketch, positions, radius: tuple[float, float]) -> None:
    for x in positions:
        sketch.ellipse((x, 1 - radius[1]), (radius[0] * 1.22, radius[1] * 1.22), BLACK, 60, rounded=False)
    sketch.material[int(sketch.material.shape[0] * 0.985) :] = 0
    for x in positions:
        sketch.ellipse((x, 1 - radius[1]), radius, BLACK, 125)
        sketch.ellipse((x, 1 - radius[1]), (radius[0] * 0.6, radius[1] * 0.6), CHROME, 125)
        sketch.ellipse((x, 1 - radius[1]), (radius[0] * 0.2, radius[1] * 0.2), CHROME, 70)


def _car(atlas: Atlas, size: tuple[float, float, float], outline, glass: int) -> Vehicle:
    length, _, height = size
    side = Sketch(256, 64)
    ground_gap = 0.17
    side.polygon([(s, 1 - t) for s, t in outline] + [(0.99, 1 - ground_gap), (0.01, 1 - ground_gap)], BODY, 128, rounded=False)
    rows = np.linspace(0, 1, 64)[:, None]
    side.luminance += np.where(side.material > 0, 18 * np.cos((rows - 0.42) * 9) - 26 * (rows > 0.72), 0)
    (s1, t1), (s2, t2), (s3, t3), (s4, t4) = outline[1:5]
    belt = max(t1, t4) + 0.015
    roof = min(t2, t3) - 0.06
    top_rear = s1 + (s2 - s1) * np.clip((roof - t1) / (t2 - t1), 0, 1) + 0.02
    top_front = s4 - (s4 - s3) * np.clip((roof - t4) / (t3 - t4), 0, 1) - 0.015
    side.polygon(
        [(s1 + 0.035, 1 - belt), (top_rear, 1 - roof), (top_front, 1 - roof), (s4 - 0.03, 1 - belt)], GLASS, 125, rounded=False
    )
    middle = (s2 + s4) / 2 - 0.03
    for x in (middle, (s1 + middle) / 2 + 0.02):
        side.box(x, x + 0.016, 1 - roof - 0.02, 1 - belt, BODY, 105)
        side.box(x, x + 0.006, 1 - belt, 0.78, BODY, 70)
        side.box(x - 0.035, x - 0.01, 0.46, 0.49, CHROME, 110)
    side.polygon([(0.95, 0.46), (0.995, 0.5), (0.99, 0.58), (0.94, 0.54)], HEADLIGHT, 128, rounded=False)
    side.polygon([(0.005, 0.42), (0.04, 0.4), (0.04, 0.52), (0.005, 0.52)], TAIL_LIGHT, 128, rounded=False)
    side.box(0.01, 0.99, 0.8, 0.84, BLACK, 110)
    _wheels(side, (0.19, 0.81), (0.33 / length, 0.33 / height))
    side_id = side.store(atlas, 'vehicle part')
    front, rear = _ends(atlas, outline[-1][1] * height, 0.34), _ends(atlas, outline[0][1] * height, 0.34, rear=True)
    hood = atlas.variants['plain'][0]
    strips = (hood, glass, hood, glass, hood, hood)
    return Vehicle(_shell(size, outline, strips, side_id, front, rear), *size)


def _ends(atlas: Atlas, height: float, gap: float, rear: bool = False, window: tuple[float, float] | None = None) -> int:
    """Front or rear cut-out of the given height in metres, with tyres below; ``window``: glass between these heights."""
    sketch = Sketch(64, 64)
    at = lambda y: 1 - y / height  # noqa: E731
    for x in (0.02, 0.82):
        sketch.box(x, x + 0.16, at(gap + 0.2), 1, BLACK, 115)
    sketch.box(0, 1, 0, at(gap), BODY, 124)
    sketch.box(0, 1, at(gap + 0.12), at(gap), BLACK, 120)
    if window is not None:
        low, high = (at(v) for v in window)
        sketch.polygon([(0.06, high), (0.94, high), (0.96, low), (0.04, low)], GLASS, 118, rounded=False)
        sketch.polygon([(0.45, high), (0.7, high), (0.4, low), (0.15, low)], GLASS, 150, rounded=False)
    lamp_top = at(min(height - 0.04, gap + 0.46))
    lamp_low = at(min(height - 0.2, gap + 0.28))
    for left, right in ((0.03, 0.24), (0.76, 0.97)):
        lamp = [(left, lamp_top), (right, lamp_top), (right, lamp_low), (left, lamp_low)]
        sketch.polygon(lamp, TAIL_LIGHT if rear else HEADLIGHT, 130, rounded=False)
    if not rear:
        sketch.polygon([(0.28, lamp_top), (0.72, lamp_top), (0.68, lamp_low), (0.32, lamp_low)], BLACK, 90, rounded=False)
    plate = at(gap + 0.26), at(gap + 0.13)
    sketch.box(0.36, 0.64, plate[0], plate[1], PLATE, 128)
    return sketch.store(atlas, 'vehicle part')


def _truck(atlas: Atlas, cargo: str) -> Vehicle:
    size = length, _, height = (8.5, 2.5, 3.5)
    side = Sketch(256, 128)
    cab_top, cab_start, bed = 0.78, 0.76, 0.32
    side.box(0.01, 0.98, 0.76, 0.84, BLACK, 110)
    if cargo == 'flat':
        side.box(0, 0.73, 0.55, 1 - bed + 0.08, SECOND, 128)
        for x in np.arange(0.0, 0.73, 0.12):
            side.box(x, x + 0.012, 0.55, 1 - bed + 0.08, SECOND, 85)
    else:
        side.box(0, 0.73, 0, 1 - bed + 0.06, SECOND, 128)
        for x in np.arange(0.0, 0.73, 0.045 if cargo == 'tarpaulin' else 0.18):
            side.box(x, x + 0.008, 0, 1 - bed + 0.06, SECOND, 100)
        side.box(0.18, 0.55, 0.25, 0.4, BODY, 128)
    side.polygon(
        [(cab_start, 1 - cab_top), (0.96, 1 - cab_top), (1, 0.5), (1, 0.86), (cab_start, 0.86)], BODY, 128, rounded=False
    )
    side.polygon([(0.81, 0.3), (0.945, 0.3), (0.975, 0.5), (0.81, 0.5)], GLASS, 125, rounded=False)
    side.box(0.97, 1, 0.66, 0.72, HEADLIGHT)
    _wheels(side, (0.14, 0.27, 0.86), (0.5 / length, 0.5 / height))
    plain = atlas.variants['plain'][0]
    front = _ends(atlas, cab_top * height, 0.5, window=(1.65, 2.6))
    rear_height = height if cargo != 'flat' else 0.45 * height
    rear = Sketch(64, 64)
    bed_row = 1 - 1.0 / rear_height
    for x in (0.03, 0.77):
        rear.box(x, x + 0.2, bed_row, 1, BLACK, 115)
    rear.box(0, 1, 0, bed_row, SECOND, 124)
    rear.box(0.49, 0.51, 0, bed_row, SECOND, 80)
    rear.box(0, 1, bed_row, bed_row + 0.25 / rear_height, BLACK, 130)
    for x in (0.04, 0.8):
        rear.box(x, x + 0.16, bed_row + 0.02, bed_row + 0.2 / rear_height, TAIL_LIGHT, 130)
    rear.box(0.4, 0.6, bed_row + 0.04, bed_row + 0.2 / rear_height, PLATE, 128)
    rear_id, side_id = rear.store(atlas, 'vehicle part'), side.store(atlas, 'vehicle part')
    load_top = rear_height / height
    outline = ((0, load_top), (0.73, load_top), (0.7301, cab_top), (0.96, cab_top), (1, cab_top))
    template = _shell(
        size, outline, (atlas.add('vehicle part', np.full((8, 8), 128.0), SECOND), plain, plain, plain), side_id, front, rear_id
    )
    return Vehicle(template, *size)


def _coach(atlas: Atlas, size: tuple[float, float, float], doors: int) -> Vehicle:
    length, _, height = size
    side = Sketch(256, 64)
    side.box(0, 1, 0.0, 0.88, BODY, 128)
    side.box(0, 1, 0.0, 0.06, BODY, 105)
    side.box(0, 1, 0.62, 0.7, SECOND, 128)
    side.box(0.015, 0.985, 0.14, 0.52, GLASS, 120)
    for x in np.arange(0.1, 0.96, 0.105):
        side.box(x, x + 0.01, 0.14, 0.52, BLACK, 120)
    for k in range(doors):
        x = 0.9 - 0.36 * k
        side.box(x, x + 0.085, 0.12, 0.86, BLACK, 100)
        side.box(x + 0.008, x + 0.04, 0.15, 0.82, GLASS, 140)
        side.box(x + 0.046, x + 0.077, 0.15, 0.82, GLASS, 130)
    _wheels(side, (0.24, 0.78), (0.5 / length, 0.5 / height))
    front, rear = _ends(atlas, height, 0.32, window=(1.2, 2.55)), _ends(atlas, height, 0.32, rear=True, window=(1.7, 2.6))
    plain = atlas.variants['plain'][0]
    outline = ((0, 1), (0.5, 1), (1, 1))
    return Vehicle(_shell(size, outline, (plain, plain), side.store(atlas, 'vehicle part'), front, rear), *size)


def _tram(atlas: Atlas, sections: int) -> Vehicle:
    """Taller than a bus, skirts down to the rails, many doors, a slanted nose and a pantograph."""
    size = (9.0 * sections, 2.5, 3.6)
    side = Sketch(256, 64)
    nose = 0.09 / sections
    side.polygon([(nose, 0.06), (1 - nose, 0.06), (1, 0.5), (1, 0.94), (0, 0.94), (0, 0.5)], BODY, 128, rounded=False)
    side.box(nose * 2, 1 - nose * 2, 0.0, 0.1, CHROME, 95)
    side.polygon([(nose, 0.2), (1 - nose, 0.2), (1 - 0.3 * nose, 0.52), (0.3 * nose, 0.52)], GLASS, 120, rounded=False)
    side.box(0, 1, 0.62, 0.76, SECOND, 128)
    for k in range(sections * 2):
        x = (k + 0.5) / (sections * 2)
        side.box(x - 0.045, x + 0.045, 0.13, 0.92, SECOND, 110)
        side.box(x - 0.038, x - 0.003, 0.2, 0.85, GLASS, 135)
        side.box(x + 0.003, x + 0.038, 0.2, 0.85, GLASS, 125)
    for k in range(1, sections):
        side.box(k / sections - 0.012, k / sections + 0.012, 0.05, 0.95, BLACK, 95)
    side.box(0.01, 0.99, 0.9, 0.985, BLACK, 100)
    ends = [_ends(atlas, 1.8, 0.1, rear=rear) for rear in (False, True)]
    windscreen = Sketch(32, 32)
    windscreen.box(0, 1, 0, 1, BODY, 128)
    windscreen.box(0.2, 0.8, 0.03, 0.16, HEADLIGHT, 120)
    windscreen.box(0.06, 0.94, 0.2, 0.96, GLASS, 120)
    pane, plain = windscreen.store(atlas, 'vehicle part'), atlas.variants['plain'][0]
    outline = ((0, 0.5), (nose, 0.96), (1 - nose, 0.96), (1, 0.5))
    return Vehicle(_shell(size, outline, (pane, plain, pane), side.store(atlas, 'vehicle part'), *ends), *size)
