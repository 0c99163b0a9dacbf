"""Cut-outs of bicycles and motorcycles, parked or ridden, seen from the side and along the street.

Materials: 0..3 rider (skin, hair or helmet, shirt, trousers), 4..7 machine (frame, tyre, metal, lamp).
"""

import numpy as np

from mtl_plugins.synthetic.streets.atlas import Atlas
from mtl_plugins.synthetic.streets.sprites import HAIR, LAMP, MACHINE, METAL, SHIRT, SKIN, TROUSERS, TYRE, Sketch

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


def add_cycles(atlas: Atlas, rng: np.random.Generator) -> None:
    """Every cut-out of this module under its name in `SIZES`."""
    for _ in range(3):
        for name, (width, height) in SIZES.items():
            sketch = Sketch(64 if 'along' in name else 128, 64 if height < 1.5 else 128)
            machine_top = 1 - (1.1 if name.startswith(('bicycle', 'cyclist')) else 1.25) / height
            machine = _Machine(sketch, machine_top)
            rider = (name.split()[0] in ('cyclist', 'biker'), rng.uniform(-0.03, 0.03))
            if name.startswith(('bicycle', 'cyclist')):
                (_bicycle_side if 'side' in name else _bicycle_along)(sketch, machine, width, rider, rng)
            else:
                (_motorcycle_side if 'side' in name else _motorcycle_along)(sketch, machine, width, rider, rng)
            sketch.store(atlas, name)


class _Machine:
    """Maps machine coordinates (y: 0 top of the machine, 1 ground) into the picture."""

    def __init__(self, sketch: Sketch, top: float) -> None:
        self.sketch, self.top = sketch, top

    def at(self, *points: tuple[float, float]) -> list[tuple[float, float]]:
        return [(x, self.top + y * (1 - self.top)) for x, y in points]

    def stroke(self, points, thickness: float, material: int, luminance: float = 128) -> None:
        self.sketch.stroke(self.at(*points), thickness, material, luminance)

    def wheel(self, x: float, y: float, radius_x: float, radius_y: float, ring: float, material: int = TYRE) -> None:
        (centre,) = self.at((x, y))
        self.sketch.ellipse(centre, (radius_x, radius_y * (1 - self.top)), material, 120, ring=ring)


def _bicycle_side(sketch: Sketch, machine: _Machine, width: float, rider: tuple[bool, float], rng: np.random.Generator) -> None:
    radius_x, radius_y, height = 0.34 / width, 0.34 / 1.1, 1.1
    for x in (0.2, 0.8):
        machine.wheel(x, 1 - radius_y, radius_x * 0.92, radius_y * 0.92, ring=0.035)
        machine.wheel(x, 1 - radius_y, 0.02, 0.03, ring=0.02, material=METAL)
        for angle in np.arange(4) * np.pi / 4:
            dx, dy = radius_x * 0.85 * np.cos(angle), radius_y * 0.85 * np.sin(angle)
            machine.stroke([(x - dx, 1 - radius_y - dy), (x + dx, 1 - radius_y + dy)], 0.01, METAL, 95)
    hub, crank, seat, head = 1 - radius_y, 0.7, (0.36, 0.22), (0.7, 0.2)
    frame = [(0.2, hub), (0.46, crank), head, (0.38, 0.32), (0.2, hub)]
    machine.stroke(frame, 0.035, MACHINE, 130)
    machine.stroke([(0.46, crank), (0.37, 0.25)], 0.035, MACHINE, 120)
    machine.stroke([(0.8, hub), (0.68, 0.08)], 0.035, MACHINE, 130)
    machine.stroke([(0.62, 0.06), (0.72, 0.07)], 0.035, METAL, 100)
    machine.stroke([(0.3, 0.2), (0.42, 0.21)], 0.05, TYRE, 110)
    if rng.random() < 0.5:
        machine.stroke([(0.08, 0.3), (0.3, 0.3)], 0.03, METAL, 110)
    if rider[0]:
        _rider_side(sketch, machine.at(seat, (0.69, 0.1), (0.5, crank + 0.08)), rider[1], upright=height / 1.8)


def _rider_side(sketch: Sketch, joints: list[tuple[float, float]], lean: float, upright: float) -> None:
    """``joints``: hip, hand, foot in picture coordinates; the head keeps the distance a grown body has."""
    hip, hand, foot = joints
    shoulder = (hip[0] + 0.13 + lean, hip[1] - 0.28 * upright / 0.61)
    knee = ((hip[0] + foot[0]) / 2 + 0.14, (hip[1] + foot[1]) / 2 - 0.02)
    sketch.stroke([hip, (knee[0] - 0.08, knee[1] + 0.04), (foot[0] - 0.08, foot[1] - 0.04)], 0.075, TROUSERS, 95)
    sketch.stroke([hip, knee, foot], 0.085, TROUSERS, 120)
    sketch.stroke([foot, (foot[0] + 0.06, foot[1] + 0.005)], 0.05, HAIR, 90)
    sketch.stroke([hip, shoulder], 0.15, SHIRT, 130)
    sketch.stroke([shoulder, ((shoulder[0] + hand[0]) / 2 - 0.02, (shoulder[1] + hand[1]) / 2 + 0.05), hand], 0.06, SHIRT, 110)
    sketch.ellipse(hand, (0.025, 0.02), SKIN)
    head = (shoulder[0] + 0.05, max(shoulder[1] - 0.095, 0.075))
    sketch.ellipse(head, (0.06, 0.065), SKIN, 130)
    sketch.polygon([(head[0] - 0.07, head[1] + 0.01), (head[0] - 0.05, head[1] - 0.055), (head[0] + 0.02, head[1] - 0.07),
                    (head[0] + 0.065, head[1] - 0.02)], HAIR, 130)  # fmt: skip


def _bicycle_along(sketch: Sketch, machine: _Machine, width: float, rider: tuple[bool, float], rng: np.random.Generator) -> None:
    machine.stroke([(0.5, 0.45), (0.5, 0.96)], 0.09, TYRE, 110)
    machine.stroke([(0.5, 0.15), (0.5, 0.6)], 0.07, MACHINE, 130)
    machine.stroke([(0.5 - 0.28 / width, 0.1), (0.5 + 0.28 / width, 0.1)], 0.06, METAL, 115)
    sketch.ellipse(machine.at((0.5, 0.32))[0], (0.06, 0.025), LAMP, 150)
    if rider[0]:
        _rider_along(sketch, machine, 0.28 / width, rng)


def _rider_along(sketch: Sketch, machine: _Machine, reach: float, rng: np.random.Generator) -> None:
    (hip_y,), (pedal_low,), (pedal_high,) = ([y for _, y in machine.at((0, v))] for v in (0.15, 0.86, 0.62))
    for side, pedal in ((-1, pedal_low), (1, pedal_high)):
        sketch.stroke(
            [(0.5 + side * 0.1, hip_y), (0.5 + side * 0.2, (hip_y + pedal) / 2), (0.5 + side * 0.13, pedal)], 0.15, TROUSERS, 115
        )
    shoulder = max(hip_y - 0.31, 0.17)
    for side in (-1, 1):
        sketch.stroke([(0.5 + side * 0.22, shoulder + 0.03), (0.5 + side * (reach + 0.03), (shoulder + hip_y) / 2),
                       (0.5 + side * reach * 0.9, machine.at((0, 0.08))[0][1])], 0.12, SHIRT, 110)  # fmt: skip
    sketch.polygon([(0.25, shoulder + 0.03), (0.38, shoulder - 0.02), (0.62, shoulder - 0.02), (0.75, shoulder + 0.03),
                    (0.68, hip_y + 0.03), (0.32, hip_y + 0.03)], SHIRT, 132)  # fmt: skip
    sketch.ellipse((0.5, shoulder - 0.08), (0.15, 0.065), SKIN, 130)
    low = 0.0 if rng.random() < 0.5 else 0.05
    sketch.ellipse((0.5, shoulder - 0.1 + 0.4 * low), (0.17, 0.055 + low * 0.6), HAIR, 130)


def _motorcycle_side(
    sketch: Sketch, machine: _Machine, width: float, rider: tuple[bool, float], rng: np.random.Generator
) -> None:
    radius_x, radius_y = 0.31 / width, 0.31 / 1.25
    for x in (0.17, 0.82):
        machine.wheel(x, 1 - radius_y, radius_x * 0.8, radius_y * 0.8, ring=0.075)
        machine.wheel(x, 1 - radius_y, radius_x * 0.3, radius_y * 0.3, ring=0.05, material=METAL)
    hub = 1 - radius_y
    machine.stroke([(0.82, hub), (0.72, 0.18)], 0.05, METAL, 130)
    sketch.polygon(machine.at((0.3, 0.6), (0.66, 0.55), (0.64, 0.88), (0.36, 0.9)), METAL, 85)
    machine.stroke([(0.17, hub), (0.45, 0.85), (0.3, 0.86), (0.06, 0.74)], 0.04, METAL, 120)
    sketch.polygon(
        machine.at((0.03, 0.42), (0.14, 0.38), (0.42, 0.46), (0.5, 0.34), (0.64, 0.27), (0.72, 0.34), (0.66, 0.58), (0.34, 0.66)),
        MACHINE,
        130,
    )
    sketch.polygon(machine.at((0.12, 0.38), (0.2, 0.3), (0.46, 0.4), (0.44, 0.48)), TYRE, 120)
    if rng.random() < 0.6:
        sketch.polygon(machine.at((0.66, 0.5), (0.68, 0.2), (0.76, 0.02), (0.8, 0.25), (0.86, 0.42), (0.76, 0.55)), MACHINE, 140)
    sketch.ellipse(machine.at((0.81, 0.32))[0], (0.035, 0.05), LAMP, 150)
    sketch.ellipse(machine.at((0.035, 0.46))[0], (0.02, 0.03), LAMP, 80)
    machine.stroke([(0.62, 0.14), (0.73, 0.16)], 0.035, METAL, 100)
    if rider[0]:
        _rider_side(sketch, machine.at((0.32, 0.32), (0.66, 0.14), (0.46, 0.86)), rider[1], upright=0.55)


def _motorcycle_along(
    sketch: Sketch, machine: _Machine, width: float, rider: tuple[bool, float], rng: np.random.Generator
) -> None:
    machine.stroke([(0.5, 0.5), (0.5, 0.93)], 0.2, TYRE, 110)
    sketch.polygon(machine.at((0.3, 0.3), (0.7, 0.3), (0.74, 0.5), (0.66, 0.75), (0.34, 0.75), (0.26, 0.5)), MACHINE, 130)
    machine.stroke([(0.5 - 0.36 / width, 0.17), (0.5 + 0.36 / width, 0.17)], 0.07, METAL, 110)
    for side in (-1, 1):
        machine.stroke([(0.5 + side * 0.33 / width, 0.17), (0.5 + side * 0.38 / width, 0.02)], 0.05, METAL, 105)
        machine.stroke([(0.5 + side * 0.3, 0.62), (0.5 + side * 0.3, 0.8)], 0.12, METAL, 95)
    sketch.ellipse(machine.at((0.5, 0.4))[0], (0.14, 0.05), LAMP, 150)
    if rider[0]:
        _rider_along(sketch, machine, 0.33 / width, rng)
