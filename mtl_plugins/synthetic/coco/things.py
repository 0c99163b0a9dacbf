"""Cars, bicycles and other things of a generated COCO."""

import numpy as np

from mtl_plugins.synthetic.coco.shapes import Part, dye, limb, oval, patch, pattern, polygon, stick, swing_chain


def car(rng: np.random.Generator) -> list[Part]:
    """Body, cabin, windows, wheels and lamps, from the side or from the front."""
    paint, glass, metal = dye(rng), np.array([70, 90, 105.0]) * rng.uniform(0.5, 1.7), np.full(3, rng.uniform(120, 210))
    return _car_front(rng, paint, glass) if rng.random() < 0.25 else _car_side(rng, paint, glass, metal)


def _car_side(rng: np.random.Generator, paint: np.ndarray, glass: np.ndarray, metal: np.ndarray) -> list[Part]:
    radius, belt, roof = rng.uniform(0.075, 0.095), rng.uniform(-0.27, -0.23), rng.uniform(-0.46, -0.36)
    front, back = rng.uniform(0.12, 0.22), rng.uniform(-0.46, -0.28)
    slope_front, slope_back = rng.uniform(0.1, 0.16), rng.uniform(0.03, 0.12)
    body = polygon(
        (-0.5, -0.1), (-0.5, belt + 0.02), (back, belt), (front + slope_front, belt), (0.47, belt + 0.05), (0.5, -0.1), rounds=1
    )
    cabin = polygon((back, belt + 0.03), (back + slope_back, roof), (front, roof), (front + slope_front, belt + 0.03), rounds=1)
    middle = (back + front) / 2 + rng.uniform(-0.03, 0.06)
    top, bottom = roof + 0.03, belt - 0.01
    rear_top, front_bottom = back + slope_back + 0.02, front + slope_front - 0.04
    panes = [
        polygon((back + 0.03 + slope_back * 0.3, bottom), (rear_top, top), (middle - 0.015, top), (middle - 0.015, bottom)),
        polygon((middle + 0.015, bottom), (middle + 0.015, top), (front - 0.015, top), (front_bottom, bottom)),
    ]
    parts = [Part([cabin], paint * 0.92), Part([body], paint), Part(panes, glass)]
    parts.append(stick(paint * 0.6, [(middle, belt + 0.01), (middle, -0.1)], 0.012))
    parts.append(patch(paint * 0.5, (-0.49, -0.13), (0.49, -0.13), (0.48, -0.07), (-0.48, -0.07)))
    parts.append(Part([oval(0.47, belt + 0.085, 0.025)], np.array([250, 240, 190.0])))
    parts.append(Part([oval(-0.485, belt + 0.06, 0.018, 0.03)], np.array([190, 30, 30.0])))
    return parts + _wheel(-0.29, radius, metal) + _wheel(0.29, radius, metal)


def _car_front(rng: np.random.Generator, paint: np.ndarray, glass: np.ndarray) -> list[Part]:
    roof = rng.uniform(-0.72, -0.6)
    tyre, lamp = np.array([28, 28, 30.0]), np.array([250, 240, 200.0])
    parts = [patch(tyre, (x - 0.06, -0.2), (x + 0.06, -0.2), (x + 0.06, 0), (x - 0.06, 0), rounds=1) for x in (-0.33, 0.33)]
    parts.append(patch(paint * 0.92, (-0.43, -0.34), (-0.29, roof), (0.29, roof), (0.43, -0.34), rounds=1))
    bonnet = (-0.46, -0.1), (-0.46, -0.38), (-0.38, -0.43), (0.38, -0.43), (0.46, -0.38), (0.46, -0.1)
    parts.append(patch(paint, *bonnet, rounds=1))
    parts.append(patch(glass, (-0.34, -0.42), (-0.26, roof + 0.05), (0.26, roof + 0.05), (0.34, -0.42)))
    parts.append(patch(tyre * 1.6, (-0.2, -0.3), (0.2, -0.3), (0.17, -0.2), (-0.17, -0.2)))
    parts += [Part([oval(x, -0.3, 0.075, 0.045)], lamp) for x in (-0.34, 0.34)]
    parts.append(patch(paint * 0.55, (-0.46, -0.16), (0.46, -0.16), (0.44, -0.09), (-0.44, -0.09)))
    parts += [stick(paint * 0.8, [(x, -0.42), (x * 1.08, -0.45)], 0.05) for x in (-0.46, 0.46)]
    return parts


def _wheel(x: float, radius: float, metal: np.ndarray) -> list[Part]:
    tyre = np.array([28.0, 28, 30])
    return [Part([oval(x, -radius, radius * share)], colour) for share, colour in ((1, tyre), (0.55, metal), (0.2, tyre))]


def bicycle(rng: np.random.Generator) -> list[Part]:
    """Two wheels through which the background shows, a frame, a saddle and a handlebar."""
    paint, rubber, metal = dye(rng), np.full(3, rng.uniform(15, 60)), np.full(3, rng.uniform(110, 200))
    radius, width = rng.uniform(0.2, 0.235), rng.uniform(0.026, 0.04)
    rear, front = (-0.5 + radius, -radius), (0.5 - radius, -radius)
    crank, seat, steer = (-0.04, -radius * 0.95), (-0.13, -0.44), (0.2, -0.5)
    parts = [Part([oval(*hub, radius)], rubber, holes=[oval(*hub, radius - width)]) for hub in (rear, front)]
    turn = rng.uniform(0, np.pi)
    for hub in (rear, front):
        for angle in turn + np.arange(3) * np.pi / 3:
            tip = (radius - width) * np.array([np.cos(angle), np.sin(angle)])
            parts.append(stick(metal, [tuple(hub - tip), tuple(hub + tip)], 0.009))
    parts.append(patch(None, rear, seat, steer, crank))
    tubes = limb([rear, crank, steer, seat, rear], width) + limb([crank, seat, (seat[0] - 0.02, seat[1] - 0.07)], width)
    tubes += limb([front, (steer[0] - 0.005, steer[1] - 0.06)], width)
    parts.append(Part(tubes, paint))
    parts.append(stick(rubber * 0.8, [(-0.22, -0.53), (-0.08, -0.52)], (0.06, 0.03)))
    x, y = bar = steer[0] - 0.005, steer[1] - 0.06
    parts.append(stick(rubber, [(x - 0.05, y - 0.02), bar, (x + 0.07, y - 0.01), (x + 0.06, y + 0.05)], 0.028))
    pedal = swing_chain(crank, (rng.uniform(-np.pi, np.pi),), (0.09,))[-1]
    parts += [Part([oval(*crank, 0.045)], metal), stick(metal * 0.7, [crank, pedal], 0.02)]
    return [*parts, Part([oval(*pedal, 0.025, 0.015)], rubber)]


def chair(rng: np.random.Generator) -> list[Part]:
    """Back, seat and four legs."""
    wood, cloth = dye(rng), dye(rng)
    parts = [
        stick(wood * shade, [(x, -0.45), (x * 1.1 + tilt, 0)], 0.045)
        for x, tilt, shade in ((-0.2, 0.06, 0.7), (0.22, -0.05, 0.7), (-0.26, 0, 1), (0.26, 0, 1))
    ]
    parts.append(patch(wood, (-0.26, -0.45), (-0.3, -0.98), (-0.22, -1), (-0.16, -0.45)))
    coat = pattern(rng, ('plain', 'checks', 'stripes'), cloth, (0.06, 0.12))
    parts.append(patch(cloth, (-0.29, -0.52), (0.24, -0.52), (0.3, -0.43), (-0.29, -0.43), coat=coat))
    return parts


def potted_plant(rng: np.random.Generator) -> list[Part]:
    """Leaves over a pot."""
    pot, leaf = dye(rng), np.array([60, 130, 55.0]) * rng.uniform(0.6, 1.4)
    parts = []
    for angle in rng.permutation(np.linspace(-1.25, 1.25, 9)):
        length = rng.uniform(0.35, 0.62)
        x, y = length * np.sin(angle), -0.33 - length * np.cos(angle)
        blade = oval(x / 2, (y - 0.33) / 2, length / 2, 0.06, np.arctan2(y + 0.33, x))
        parts.append(Part([blade], leaf * rng.uniform(0.7, 1.25)))
    coat = pattern(rng, ('plain', 'stripes'), pot, (0.06, 0.12))
    return [*parts, patch(pot, (-0.2, -0.36), (0.2, -0.36), (0.14, 0), (-0.14, 0), coat=coat)]


def traffic_light(rng: np.random.Generator) -> list[Part]:
    """A pole, a box and three lamps, of which one is lit."""
    grey, lit = np.full(3, rng.uniform(50, 150)), rng.integers(3)
    parts = [
        stick(grey, [(0, 0), (0, -0.6)], 0.05),
        patch(grey * 0.45, (-0.11, -0.55), (0.11, -0.55), (0.11, -1), (-0.11, -1), rounds=1),
    ]
    for k, lamp in enumerate(((230, 50, 40), (250, 190, 40), (60, 220, 90))):
        parts.append(Part([oval(0, -0.92 + 0.145 * k, 0.062)], np.array(lamp) * (1.0 if k == lit else 0.35)))
    return parts


def ball(rng: np.random.Generator) -> list[Part]:
    """A ball with patches."""
    colour = dye(rng)
    return [Part([oval(0, -0.5, 0.5)], colour, coat=pattern(rng, ('spots', 'stripes', 'checks'), colour, (0.25, 0.6)))]
