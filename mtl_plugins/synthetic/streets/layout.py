"""Draws a random cross-section of a street: lanes, parking, medians, tracks, sidewalks, crossings and their markings."""

from dataclasses import dataclass

import numpy as np

from mtl_plugins.synthetic.streets.street import (
    ASPHALT,
    CURB,
    CYCLE_PATH,
    GRASS,
    PARKING,
    PAVING,
    SQUARE,
    TRACK_BED,
    StreetPlan,
)  # fmt: skip

_STYLES = ('city', 'suburb', 'park', 'industry', 'open')
_STYLE_SHARES = (0.54, 0.2, 0.13, 0.08, 0.05)


@dataclass(frozen=True)
class Lane:
    """A strip that vehicles use: its middle, whether they come toward the camera, and what drives on it."""

    lateral: float
    oncoming: bool
    use: str


@dataclass(frozen=True)
class Side:
    """One side of the street. ``curb``, ``back``: lateral of the curb and of where the lots begin; ``sign``: -1 left, 1 right."""

    sign: int
    curb: float
    walk: float
    back: float
    style: str


def sample_cross_section(rng: np.random.Generator, z_end: float) -> tuple[StreetPlan, list[Lane], list[Side]]:
    """A street whose camera drives in one of the own lanes, in right-hand traffic; left side first."""
    lane = rng.uniform(2.9, 3.7)
    own, oncoming = int(rng.choice([1, 2, 3], p=[0.6, 0.3, 0.1])), int(rng.choice([0, 1, 2, 3], p=[0.12, 0.56, 0.24, 0.08]))
    kind = str(rng.choice(['none', 'line', 'green', 'barrier', 'tram'], p=[0.2, 0.46, 0.1, 0.06, 0.18]))
    middle = {'none': 0.0, 'line': 0.0, 'green': rng.uniform(1.5, 5), 'barrier': 1.2, 'tram': 6.6}[kind] if oncoming else 0.0
    my_lane = int(rng.integers(own))
    centre = -(my_lane + 0.5) * lane + rng.normal(0, 0.2)
    parking = [rng.uniform(2.1, 2.5) * (rng.random() < 0.5) for _ in range(2)]
    road = centre - middle - oncoming * lane - parking[0], centre + own * lane + parking[1]
    plan = StreetPlan(road=road, texture_variant=int(rng.integers(12)), line_brightness=rng.uniform(0.45, 1.0))
    sides = _sample_sides(rng, plan)
    plan.bands.append((*road, ASPHALT))
    lanes = [Lane(centre + (k + 0.5) * lane, False, 'traffic') for k in range(own)]
    left = centre - middle
    lanes += [Lane(left - (k + 0.5) * lane, True, 'traffic') for k in range(oncoming)]
    for side, (edge, width) in enumerate(((road[0], parking[0]), (road[1] - parking[1], parking[1]))):
        if width:
            plan.bands.append((edge, edge + width, PARKING))
            lanes.append(Lane(edge + width / 2, side == 0 and oncoming > 0, 'parking'))
            plan.lines.append((edge + width * (side == 0), 0.12, 3, 0))
    dash, gap = rng.uniform(2, 6), rng.uniform(3, 8)
    plan.lines += [(centre + k * lane, 0.14, dash, gap) for k in range(1, own)]
    plan.lines += [(left - k * lane, 0.14, dash, gap) for k in range(1, oncoming)]
    if rng.random() < 0.5:
        plan.lines += [(road[0] + parking[0] + 0.3, 0.14, 3, 0), (road[1] - parking[1] - 0.3, 0.14, 3, 0)]
    if kind == 'line' and oncoming:
        plan.lines.append((centre, 0.15, dash, gap if rng.random() < 0.6 else 0))
    if middle:
        lanes.append(Lane(centre - middle / 2, False, kind))
        plan.bands.append(
            (left, centre, {'green': GRASS, 'barrier': PAVING, 'tram': TRACK_BED if rng.random() < 0.7 else GRASS}[kind])
        )
        if kind == 'tram':
            plan.rails = [centre - middle / 2 + offset for offset in (-2.4, -0.95, 0.95, 2.4)]
        else:
            plan.bands += [(left, left + 0.25, CURB), (centre - 0.25, centre, CURB)]
    plan.crossings, plan.zebras = _sample_crossings(rng, z_end)
    plan.colours = _sample_colours(rng)
    return plan, lanes, sides


def _sample_sides(rng: np.random.Generator, plan: StreetPlan) -> list[Side]:
    sides = []
    style = str(rng.choice(_STYLES, p=_STYLE_SHARES))
    for sign, curb in ((-1, plan.road[0]), (1, plan.road[1])):
        if rng.random() < 0.3:
            style = str(rng.choice(_STYLES))
        walk = rng.uniform(1.8, 6) if rng.random() < 0.85 else rng.uniform(8, 22)
        verge = rng.uniform(1.0, 4.0) if style != 'city' and rng.random() < 0.5 else 0.0
        base = (SQUARE if rng.random() < 0.6 else PAVING) if style == 'city' else GRASS
        plan.bands.append((min(curb, sign * 95.0), max(curb, sign * 95.0), base))
        walk_kind = SQUARE if walk > 8 else PAVING
        plan.bands.append((min(curb, curb + sign * walk), max(curb, curb + sign * walk), walk_kind))
        plan.bands.append((min(curb, curb + sign * 0.3), max(curb, curb + sign * 0.3), CURB))
        if walk > 4 and rng.random() < 0.35:
            plan.bands.append((min(curb + sign * 0.4, curb + sign * 1.9), max(curb + sign * 0.4, curb + sign * 1.9), CYCLE_PATH))
        sides.append(Side(sign, curb, walk, curb + sign * (walk + verge), style))
    return sides


def _sample_crossings(rng: np.random.Generator, z_end: float) -> tuple[list[tuple[float, float]], list[tuple[float, float]]]:
    crossings, zebras = [], []
    z = rng.uniform(12, 70)
    while z < z_end - 14 and rng.random() < 0.65:
        width = rng.uniform(6, 15)
        crossings.append((z, z + width))
        if rng.random() < 0.6:
            zebras.append((z - rng.uniform(4.5, 5), z - 1.0))
        z += width + rng.uniform(40, 110)
    return crossings, zebras


def _sample_colours(rng: np.random.Generator) -> list[tuple[float, float, float]]:
    """One colour per kind of ground, in their order."""
    grey, walk, warm = rng.uniform(70, 118), rng.uniform(120, 176), rng.uniform(-6, 14)
    green = np.array([104, 122, 58]) * rng.uniform(0.7, 1.15) + rng.uniform(-14, 22, 3) * (1, 0.6, 0.4)
    asphalt = (grey + warm * 0.4, grey, grey - warm * 0.3)
    paved = (walk + warm, walk, walk - warm * 0.8)
    return [
        asphalt, tuple(0.9 * c for c in asphalt), paved, (walk + 14, walk + 14, walk + 10), tuple(green),
        (grey + 16, grey + 8, grey), (148, 84, 70) if rng.random() < 0.5 else paved, (walk - 10 + warm, walk - 14, walk - 22),
    ]  # fmt: skip
