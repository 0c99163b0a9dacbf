"""Things of everyday life composed of simple parts: what the objects of a generated COCO look like.

An object stands on the origin, faces right and is one unit tall or long: x to the right, y down, so that it lies at y < 0.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np

# fmt: off
_SKINS = ((244, 208, 177), (224, 172, 140), (198, 134, 98), (141, 85, 54), (92, 56, 38))
_HAIRS = ((30, 26, 24), (70, 45, 28), (120, 80, 45), (210, 170, 100), (170, 165, 160), (140, 60, 30))
_FURS = ((35, 32, 32), (95, 92, 95), (150, 148, 146), (120, 80, 50), (205, 140, 75), (225, 205, 170), (240, 236, 228), (75, 55, 40))
# fmt: on
_CIRCLE = np.stack([f(np.arange(20) * np.pi / 10) for f in (np.cos, np.sin)], 1)


class Coat(NamedTuple):
    """A pattern on a part: ``'stripes'``, ``'checks'`` or ``'spots'`` of another colour, ``period`` in units of the object."""

    kind: str
    colour: np.ndarray
    period: float
    angle: float


class Part(NamedTuple):
    """A filled shape.

    Attributes:
        contours: Polygons ``(N, 2)``; the part is their union.
        colour: RGB; None for what belongs to the outline of the object but shows what is behind.
        holes: Polygons that stay open in the picture, though not in the outline.
        coat: Pattern, or None.
    """

    contours: list[np.ndarray]
    colour: np.ndarray | None
    holes: Sequence[np.ndarray] = ()
    coat: Coat | None = None


def oval(x: float, y: float, rx: float, ry: float | None = None, tilt: float = 0.0) -> np.ndarray:
    """A closed ellipse about ``(x, y)``; ``tilt`` in radians."""
    ry, cosine, sine = rx if ry is None else ry, math.cos(tilt), math.sin(tilt)
    return _CIRCLE @ ((rx * cosine, rx * sine), (-ry * sine, ry * cosine)) + (x, y)


def polygon(*points: tuple[float, float], rounds: int = 0) -> np.ndarray:
    """A closed polygon, its corners cut ``rounds`` times as by Chaikin."""
    corners = np.array(points, np.float64)
    for _ in range(rounds):
        following = np.roll(corners, -1, axis=0)
        corners = np.stack([0.75 * corners + 0.25 * following, 0.25 * corners + 0.75 * following], 1).reshape(-1, 2)
    return corners


def limb(points: Sequence[tuple[float, float]], widths: Sequence[float] | float) -> list[np.ndarray]:
    """A line with round ends and joints, of the given width at each point."""
    widths = [widths] * len(points) if isinstance(widths, (int, float)) else widths
    contours = []
    for start, end, start_width, end_width in zip(points[:-1], points[1:], widths[:-1], widths[1:], strict=True):
        ends = np.concatenate([oval(*start, start_width / 2), oval(*end, end_width / 2)]).astype(np.float32)
        contours.append(cv2.convexHull(ends)[:, 0].astype(np.float64))
    return contours


def pick(rng: np.random.Generator, colours: Sequence[tuple[int, int, int]], spread: float = 14) -> np.ndarray:
    """One of the colours, a little changed."""
    return np.clip(np.array(colours[rng.integers(len(colours))]) + rng.normal(0, spread, 3), 8, 248)


def dye(rng: np.random.Generator, saturation: float = 1.3) -> np.ndarray:
    """Any colour of cloth, paint or plastic, grey ones included."""
    colour = rng.uniform(20, 240, 3)
    grey = colour.mean()
    return np.clip(grey + (colour - grey) * rng.uniform(0.1, saturation), 12, 245)


def pattern(rng: np.random.Generator, kinds: Sequence[str], colour: np.ndarray, period: tuple[float, float]) -> Coat | None:
    """One of the kinds in a colour that stands out; None for the kind ``'plain'``."""
    kind = kinds[rng.integers(len(kinds))]
    if kind == 'plain':
        return None
    contrast = 55 if colour.mean() < 128 else -60
    other = np.clip(colour + contrast * rng.uniform(0.7, 1.5) + rng.normal(0, 12, 3), 8, 248)
    return Coat(kind, other, rng.uniform(*period), rng.uniform(0, np.pi))


def _swing(joint: tuple[float, float], angles: Sequence[float], lengths: Sequence[float]) -> list[tuple[float, float]]:
    """A chain of joints that hangs from the first; angle 0 points down, positive ones forward."""
    points = [joint]
    for angle, length in zip(angles, lengths, strict=True):
        x, y = points[-1]
        points.append((x + length * np.sin(angle), y + length * np.cos(angle)))
    return points


def person(rng: np.random.Generator) -> list[Part]:
    """Head, hair, torso, two arms and two legs, walking or standing, seen from the side or the front."""
    skin, hair, shirt, trousers, shoe = pick(rng, _SKINS), pick(rng, _HAIRS), dye(rng), dye(rng), dye(rng) * 0.5
    cloth = pattern(rng, ('plain', 'plain', 'stripes', 'checks'), shirt, (0.035, 0.08))
    half = rng.uniform(0.075, 0.11)
    stride, lean = rng.uniform(0, 0.5) * (rng.random() < 0.6), rng.normal(0, 0.02)
    skirt = rng.random() < 0.25
    parts = []
    for side in (-1, 1):
        hip = (side * half * 0.5, -0.5)
        leg = _swing(hip, (side * stride, side * stride - abs(stride) * rng.uniform(0, 0.8)), (0.24, 0.23))
        shade = 0.8 if side < 0 else 1.0
        parts.append(Part(limb(leg, (0.09, 0.07, 0.05)), shade * (skin if skirt else trousers)))
        x, y = leg[-1]
        parts.append(Part(limb([(x - 0.01, y), (x + 0.045, y + 0.012)], (0.05, 0.035)), shoe))
    arms = []
    for side in (-1, 1):
        raised = rng.random() < 0.18
        swing = rng.uniform(2.0, 2.9) * side if raised else -side * stride * 0.8 + side * rng.uniform(0.05, 0.35)
        arm = _swing(
            (side * half * 0.85 + lean, -0.79), (swing, swing + rng.uniform(0, 0.7) * (1 if raised else side)), (0.17, 0.15)
        )
        arms.append(
            [Part(limb(arm, (0.06, 0.05, 0.04)), shirt * (0.78 if side < 0 else 0.95)), Part([oval(*arm[-1], 0.026)], skin)]
        )
    torso = polygon(
        (-half + lean, -0.84), (half + lean, -0.84), (half * 1.02, -0.68), (half * 0.85, -0.48), (-half * 0.85, -0.48), (-half * 1.02, -0.68),
        rounds=1,
    )  # fmt: skip
    parts += arms[0]
    if skirt:
        flare = half * rng.uniform(1.2, 1.9)
        parts.append(Part([polygon((-half * 0.8, -0.56), (half * 0.8, -0.56), (flare, -0.3), (-flare, -0.3))], trousers))
    parts.append(Part(limb([(lean, -0.85), (lean * 1.5, -0.9)], 0.05), skin * 0.9))
    parts.append(Part([torso], shirt, coat=cloth))
    parts += arms[1]
    head = (lean * 1.6, -0.93)
    radius = rng.uniform(0.055, 0.066)
    if rng.random() < 0.4:
        parts.append(Part([oval(head[0] - 0.012, head[1] + 0.035, radius * 1.1, radius * 1.7)], hair))
    parts.append(Part([oval(*head, radius * 0.9, radius * 1.12)], skin))
    parts.append(
        Part(
            [polygon(*(oval(*head, radius * 1.02, radius * 1.2)[10:20]), (head[0] - radius * 0.2, head[1] - radius * 0.45))], hair
        )
    )
    return parts


def _wheel(x: float, radius: float, metal: np.ndarray) -> list[Part]:
    tyre = np.array([28.0, 28, 30])
    return [
        Part([oval(x, -radius, radius)], tyre),
        Part([oval(x, -radius, radius * 0.55)], metal),
        Part([oval(x, -radius, radius * 0.2)], tyre),
    ]


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
    top = roof + 0.03
    panes = [
        polygon((back + 0.03 + slope_back * 0.3, belt - 0.01), (back + slope_back + 0.02, top), (middle - 0.015, top), (middle - 0.015, belt - 0.01)),
        polygon((middle + 0.015, belt - 0.01), (middle + 0.015, top), (front - 0.015, top), (front + slope_front - 0.04, belt - 0.01)),
    ]  # fmt: skip
    parts = [Part([cabin], paint * 0.92), Part([body], paint), Part(panes, glass)]
    parts.append(Part(limb([(middle, belt + 0.01), (middle, -0.1)], 0.012), paint * 0.6))
    parts.append(Part([polygon((-0.49, -0.13), (0.49, -0.13), (0.48, -0.07), (-0.48, -0.07))], paint * 0.5))
    parts.append(Part([oval(0.47, belt + 0.085, 0.025)], np.array([250, 240, 190.0])))
    parts.append(Part([oval(-0.485, belt + 0.06, 0.018, 0.03)], np.array([190, 30, 30.0])))
    return parts + _wheel(-0.29, radius, metal) + _wheel(0.29, radius, metal)


def _car_front(rng: np.random.Generator, paint: np.ndarray, glass: np.ndarray) -> list[Part]:
    roof = rng.uniform(-0.72, -0.6)
    tyre, lamp = np.array([28, 28, 30.0]), np.array([250, 240, 200.0])
    parts = [
        Part([polygon((x - 0.06, -0.2), (x + 0.06, -0.2), (x + 0.06, 0), (x - 0.06, 0), rounds=1)], tyre) for x in (-0.33, 0.33)
    ]
    parts.append(Part([polygon((-0.43, -0.34), (-0.29, roof), (0.29, roof), (0.43, -0.34), rounds=1)], paint * 0.92))
    parts.append(
        Part(
            [polygon((-0.46, -0.1), (-0.46, -0.38), (-0.38, -0.43), (0.38, -0.43), (0.46, -0.38), (0.46, -0.1), rounds=1)], paint
        )
    )
    parts.append(Part([polygon((-0.34, -0.42), (-0.26, roof + 0.05), (0.26, roof + 0.05), (0.34, -0.42))], glass))
    parts.append(Part([polygon((-0.2, -0.3), (0.2, -0.3), (0.17, -0.2), (-0.17, -0.2))], tyre * 1.6))
    parts += [Part([oval(x, -0.3, 0.075, 0.045)], lamp) for x in (-0.34, 0.34)]
    parts.append(Part([polygon((-0.46, -0.16), (0.46, -0.16), (0.44, -0.09), (-0.44, -0.09))], paint * 0.55))
    parts += [Part(limb([(x, -0.42), (x * 1.08, -0.45)], 0.05), paint * 0.8) for x in (-0.46, 0.46)]
    return parts


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
            parts.append(Part(limb([tuple(hub - tip), tuple(hub + tip)], 0.009), metal))
    parts.append(Part([polygon(rear, seat, steer, crank)], None))
    tubes = limb([rear, crank, steer, seat, rear], width) + limb([crank, seat, (seat[0] - 0.02, seat[1] - 0.07)], width)
    tubes += limb([front, (steer[0] - 0.005, steer[1] - 0.06)], width)
    parts.append(Part(tubes, paint))
    parts.append(Part(limb([(-0.22, -0.53), (-0.08, -0.52)], (0.06, 0.03)), rubber * 0.8))
    bar = (steer[0] - 0.005, steer[1] - 0.06)
    parts.append(
        Part(
            limb([(bar[0] - 0.05, bar[1] - 0.02), bar, (bar[0] + 0.07, bar[1] - 0.01), (bar[0] + 0.06, bar[1] + 0.05)], 0.028),
            rubber,
        )
    )
    pedal = _swing(crank, (rng.uniform(-np.pi, np.pi),), (0.09,))[-1]
    parts += [
        Part([oval(*crank, 0.045)], metal),
        Part(limb([crank, pedal], 0.02), metal * 0.7),
        Part([oval(*pedal, 0.025, 0.015)], rubber),
    ]
    return parts


def cat(rng: np.random.Generator) -> list[Part]:
    """Round head, pointed ears, short muzzle and a long thin tail; sitting or walking; often striped."""
    fur = pick(rng, _FURS)
    coat = pattern(rng, ('stripes', 'stripes', 'plain', 'spots'), fur, (0.06, 0.12))
    paler = np.clip(fur * 0.5 + 120, 0, 248)
    if rng.random() < 0.5:
        curl = rng.uniform(-0.15, 0.15)
        parts = [
            Part(
                limb([(-0.2, -0.06), (-0.36, -0.05), (-0.46, -0.14), (-0.46 + curl, -0.28)], (0.09, 0.08, 0.07, 0.05)),
                fur * 0.9,
                coat=coat,
            )
        ]
        parts.append(
            Part(
                [polygon((-0.3, 0), (-0.3, -0.2), (-0.16, -0.52), (0.06, -0.66), (0.2, -0.5), (0.2, -0.02), rounds=2)],
                fur,
                coat=coat,
            )
        )
        parts.append(
            Part(
                limb([(0.08, -0.36), (0.13, -0.02)], (0.12, 0.08)) + limb([(0.0, -0.3), (0.03, -0.02)], (0.1, 0.08)),
                fur * 1.06,
                coat=coat,
            )
        )
        return parts + _cat_head(fur, paler, coat, (0.1, -0.74), 0.19)
    swing = rng.uniform(-0.35, 0.35)
    bend = rng.uniform(0.1, 0.3)
    parts = [
        Part(
            limb([(-0.36, -0.36), (-0.46, -0.52), (-0.44, -0.72), (-0.44 + bend, -0.82)], (0.08, 0.065, 0.055, 0.04)),
            fur * 0.9,
            coat=coat,
        )
    ]
    for x, phase in ((-0.3, 1), (0.16, -1), (-0.22, -1), (0.24, 1)):
        leg = _swing((x, -0.24), (phase * swing, phase * swing * 0.4), (0.13, 0.1))
        parts.append(Part(limb(leg, (0.11, 0.07, 0.065)), fur * (0.82 if phase * x > 0 else 1.0)))
    parts.append(
        Part(
            [polygon((-0.42, -0.2), (-0.42, -0.42), (-0.1, -0.43), (0.3, -0.46), (0.34, -0.2), (-0.1, -0.15), rounds=2)],
            fur,
            coat=coat,
        )
    )
    return parts + _cat_head(fur, paler, coat, (0.36, -0.5), 0.155)


def _cat_head(fur: np.ndarray, paler: np.ndarray, coat: Coat | None, at: tuple[float, float], r: float) -> list[Part]:
    x, y = at
    dark = np.array([25, 22, 22.0])
    parts = []
    for side in (-1, 1):
        ear = polygon((x + side * r * 0.95, y - r * 0.3), (x + side * r * 0.85, y - r * 1.5), (x + side * r * 0.15, y - r * 0.75))
        inner = polygon((x + side * r * 0.8, y - r * 0.6), (x + side * r * 0.76, y - r * 1.2), (x + side * r * 0.4, y - r * 0.75))
        parts += [Part([ear], fur * 0.95), Part([inner], np.array([215, 150, 145.0]))]
    parts.append(Part([oval(x, y, r * 1.08, r * 0.92)], fur, coat=coat))
    parts.append(
        Part([oval(x - r * 0.2, y + r * 0.45, r * 0.3, r * 0.25), oval(x + r * 0.2, y + r * 0.45, r * 0.3, r * 0.25)], paler)
    )
    parts.append(
        Part([oval(x + side * r * 0.45, y - r * 0.1, r * 0.2, r * 0.17) for side in (-1, 1)], np.array([190, 200, 80.0]))
    )
    parts.append(Part([oval(x + side * r * 0.45, y - r * 0.1, r * 0.07, r * 0.17) for side in (-1, 1)], dark))
    parts.append(
        Part([polygon((x - r * 0.14, y + r * 0.2), (x + r * 0.14, y + r * 0.2), (x, y + r * 0.38))], np.array([200, 110, 110.0]))
    )
    return parts


def dog(rng: np.random.Generator) -> list[Part]:
    """Long muzzle, hanging ears, strong legs, a short tail and a collar; standing, walking or sitting; often spotted."""
    fur = pick(rng, _FURS)
    coat = pattern(rng, ('spots', 'spots', 'plain', 'plain'), fur, (0.14, 0.26))
    dark = np.array([25, 22, 22.0])
    ear = np.clip(fur * rng.uniform(0.45, 0.7), 8, 248)
    collar = dye(rng)
    if rng.random() < 0.3:
        parts = [Part(limb([(-0.24, -0.06), (-0.42, -0.1)], (0.08, 0.05)), fur * 0.9)]
        parts.append(
            Part(
                [polygon((-0.32, 0), (-0.32, -0.22), (-0.1, -0.55), (0.08, -0.68), (0.24, -0.5), (0.18, -0.02), rounds=2)],
                fur,
                coat=coat,
            )
        )
        parts.append(Part(limb([(0.1, -0.4), (0.16, -0.03), (0.21, -0.02)], (0.14, 0.09, 0.07)), fur * 1.05))
        x, y = 0.1, -0.74
    else:
        swing, lift = rng.uniform(-0.4, 0.4), rng.uniform(-0.1, 0.3)
        parts = [Part(limb([(-0.38, -0.48), (-0.48, -0.52 - lift)], (0.07, 0.04)), fur * 0.95)]
        for x, phase in ((-0.32, 1), (0.14, -1), (-0.24, -1), (0.22, 1)):
            leg = _swing((x, -0.36), (phase * swing, phase * swing * 0.3), (0.18, 0.16))
            parts.append(
                Part(
                    limb([*leg, (leg[-1][0] + 0.03, leg[-1][1])], (0.13, 0.075, 0.07, 0.05)),
                    fur * (0.8 if phase * x > 0 else 1.0),
                )
            )
        parts.append(
            Part(
                [polygon((-0.44, -0.3), (-0.42, -0.54), (0.0, -0.53), (0.3, -0.6), (0.34, -0.3), (0.0, -0.28), rounds=2)],
                fur,
                coat=coat,
            )
        )
        parts.append(Part(limb([(0.26, -0.5), (0.34, -0.68)], (0.2, 0.15)), fur, coat=coat))
        parts.append(Part(limb([(0.22, -0.62), (0.4, -0.57)], 0.035), collar))
        x, y = 0.36, -0.74
    parts.append(Part(limb([(x + 0.04, y + 0.02), (x + 0.22, y + 0.06)], (0.19, 0.1)), fur * 1.04))
    parts.append(Part([oval(x, y, 0.13, 0.12)], fur))
    parts.append(Part([oval(x - 0.1, y + 0.06, 0.055, 0.14, 0.25)], ear))
    parts.append(Part([oval(x + 0.26, y + 0.03, 0.03, 0.026), oval(x + 0.06, y - 0.03, 0.02)], dark))
    parts.append(Part(limb([(x + 0.12, y + 0.1), (x + 0.24, y + 0.1)], 0.012), dark))
    return parts


def chair(rng: np.random.Generator) -> list[Part]:
    """Back, seat and four legs."""
    wood, cloth = dye(rng), dye(rng)
    parts = [
        Part(limb([(x, -0.45), (x * 1.1 + tilt, 0)], 0.045), wood * shade)
        for x, tilt, shade in ((-0.2, 0.06, 0.7), (0.22, -0.05, 0.7), (-0.26, 0, 1), (0.26, 0, 1))
    ]
    parts.append(Part([polygon((-0.26, -0.45), (-0.3, -0.98), (-0.22, -1), (-0.16, -0.45))], wood))
    parts.append(
        Part(
            [polygon((-0.29, -0.52), (0.24, -0.52), (0.3, -0.43), (-0.29, -0.43))],
            cloth,
            coat=pattern(rng, ('plain', 'checks', 'stripes'), cloth, (0.06, 0.12)),
        )
    )
    return parts


def potted_plant(rng: np.random.Generator) -> list[Part]:
    """Leaves over a pot."""
    pot, leaf = dye(rng), np.array([60, 130, 55.0]) * rng.uniform(0.6, 1.4)
    parts = []
    for angle in rng.permutation(np.linspace(-1.25, 1.25, 9)):
        length = rng.uniform(0.35, 0.62)
        x, y = length * np.sin(angle), -0.33 - length * np.cos(angle)
        parts.append(
            Part([oval(x / 2, (y - 0.33) / 2, length / 2, 0.06, np.arctan2(y + 0.33, x))], leaf * rng.uniform(0.7, 1.25))
        )
    parts.append(
        Part(
            [polygon((-0.2, -0.36), (0.2, -0.36), (0.14, 0), (-0.14, 0))],
            pot,
            coat=pattern(rng, ('plain', 'stripes'), pot, (0.06, 0.12)),
        )
    )
    return parts


def traffic_light(rng: np.random.Generator) -> list[Part]:
    """A pole, a box and three lamps, of which one is lit."""
    grey, lit = np.full(3, rng.uniform(50, 150)), rng.integers(3)
    parts = [
        Part(limb([(0, 0), (0, -0.6)], 0.05), grey),
        Part([polygon((-0.11, -0.55), (0.11, -0.55), (0.11, -1), (-0.11, -1), rounds=1)], grey * 0.45),
    ]
    for k, lamp in enumerate(((230, 50, 40), (250, 190, 40), (60, 220, 90))):
        parts.append(Part([oval(0, -0.92 + 0.145 * k, 0.062)], np.array(lamp) * (1.0 if k == lit else 0.35)))
    return parts


def ball(rng: np.random.Generator) -> list[Part]:
    """A ball with patches."""
    colour = dye(rng)
    return [Part([oval(0, -0.5, 0.5)], colour, coat=pattern(rng, ('spots', 'stripes', 'checks'), colour, (0.25, 0.6)))]
