"""The sides of a street: houses, walls, fences, hedges, parks, and the view at its end."""

from itertools import pairwise

import numpy as np

from mtl_plugins.synthetic.streets.faces import Colour
from mtl_plugins.synthetic.streets.labels import BUILDING, FENCE, VEGETATION, WALL
from mtl_plugins.synthetic.streets.site import Site

_PLASTER = ((214, 200, 172), (226, 220, 206), (196, 176, 140), (204, 160, 128), (176, 178, 176), (222, 206, 150), (170, 150, 140),
            (150, 160, 168), (200, 190, 196), (130, 122, 116), (232, 228, 224), (188, 116, 92))  # fmt: skip
_BRICK = ((150, 84, 66), (128, 70, 58), (170, 120, 92), (110, 90, 80), (164, 140, 116))
_ROOFS = ((150, 70, 52), (110, 62, 50), (80, 80, 86), (96, 88, 84), (60, 64, 70))
_DOORS = ((96, 60, 40), (50, 70, 60), (60, 64, 80), (140, 40, 40), (40, 40, 44), (210, 204, 190), (60, 90, 120))


def house(
    site: Site, side: int, lateral: float, z0: float, z1: float, floors: int, storey: float, depth: float, pitched: bool
) -> None:
    """A house from ``z0`` to ``z1`` with its front at ``lateral``; ``side``: -1 left, 1 right of the street."""
    rng, faces = site.rng, site.faces
    brick = rng.random() < 0.35
    style = 1 if brick else int(site.pick((0, 2)))
    wall = site.shade(site.pick(_BRICK if brick else _PLASTER))
    glass = site.shade((58, 70, 82), 0.35)
    trim = site.shade(site.pick(((232, 230, 224), (90, 84, 78), (60, 60, 62), (214, 206, 190))))
    paint = faces.add_paint([wall, glass, trim, site.shade(site.pick(_DOORS))], BUILDING)
    base_wall = site.shade(wall, 0.2) if rng.random() < 0.5 else wall
    base_paint = faces.add_paint([base_wall, glass, trim, site.shade(site.pick(_DOORS + _BRICK))], BUILDING)
    near, far = site.ground.point(lateral, z0), site.ground.point(lateral, z1)
    start, stop = (near, far) if side < 0 else (far, near)
    edge = np.subtract(stop, start)
    bays = max(1, round((z1 - z0) / rng.uniform(2.6, 4.2)))
    ground_floor = storey * rng.uniform(1.0, 1.25)
    variants = site.assets.atlas.variants
    bay = site.pick([t for k, t in enumerate(variants['bay']) if k % 3 == style])
    sink = 1.5
    low = np.subtract(start, (0, sink, 0))
    blind = variants['blind'][style]
    faces.add(tuple(low), tuple(edge), (0, sink, 0), blind, base_paint, (bays, 0.4))
    door = int(rng.integers(bays))
    shop = site.texture('shop') if rng.random() < 0.5 else bay
    for first, last, texture in ((0, door, shop), (door, door + 1, site.texture('entrance')), (door + 1, bays, shop)):
        if last > first:
            origin = start + edge * (first / bays)
            part = tuple(edge * ((last - first) / bays))
            faces.add(tuple(origin), part, (0, ground_floor, 0), texture, base_paint, (last - first, 1))
    height = ground_floor + storey * (floors - 1)
    if floors > 1:
        upper = tuple(np.add(start, (0, ground_floor, 0)))
        faces.add(upper, tuple(edge), (0, height - ground_floor, 0), bay, paint, (bays, floors - 1))
    gable = (near[0] if side > 0 else near[0] - depth, near[1] - sink, z0)
    side_bays = max(1, round(depth / 3.5))
    front = bay if rng.random() < 0.5 else blind
    faces.add(gable, (depth, 0, 0), (0, height + sink, 0), front, paint, (side_bays, floors + sink / storey))
    if pitched:
        roof_height = depth * rng.uniform(0.3, 0.5)
        roof = faces.add_paint([site.shade(site.pick(_ROOFS))], BUILDING)
        eave = np.add(start, (-side * 0.4, height, 0))
        faces.add(tuple(eave), tuple(edge), (side * (depth / 2 + 0.4), roof_height, 0), site.texture('roof'), roof, (bays * 2, 3))
        triangle = (gable[0], near[1] + height, z0)
        faces.add(triangle, (depth, 0, 0), (0, roof_height, 0), site.texture('gable'), paint, holes=True)
        height += roof_height * 0.7
    outline = [(near[0], z0), (near[0] + side * depth, z0), (far[0] + side * depth, z1), (far[0], z1)]
    faces.add_shadow(outline, height)


def barrier(site: Site, side: int, lateral: float, z0: float, z1: float, height: float, kind: str) -> None:
    """A 'wall', 'fence', 'planks' or 'hedge' along the street, in pieces that follow its bend."""
    classes = {'wall': WALL, 'fence': FENCE, 'planks': FENCE, 'hedge': VEGETATION}[kind]
    colours: list[Colour]
    if kind == 'wall':
        texture, metres = site.texture(site.draw_kind({'brick': 1, 'stone': 1, 'concrete': 1})), 2.0
        colours = [site.shade(site.pick((*_BRICK, (168, 164, 156), (150, 144, 134), (190, 184, 170))))]
    elif kind == 'fence':
        texture, metres = site.texture('fence'), 4.0
        colours = [site.shade(site.pick(((50, 60, 54), (36, 38, 40), (150, 154, 156), (60, 90, 70), (205, 205, 200))), 0.2)]
        colours.append(site.shade(colours[0]))
    elif kind == 'planks':
        texture, metres = site.texture('planks'), 1.5
        colours = [site.shade(site.pick(((140, 104, 70), (110, 84, 62), (160, 140, 112), (210, 206, 196), (90, 80, 70))))]
    else:
        green = site.mix((48, 76, 30), (96, 116, 52))
        texture, metres, colours = site.texture('leaves'), 3.0, [green, tuple(1.25 * c for c in green)]
    paint = site.faces.add_paint(colours, classes)
    pieces = max(1, round((z1 - z0) / (8.0 if kind == 'fence' else 14.0)))
    sink = 0.0 if kind == 'fence' else 0.5
    thickness = {'wall': 0.4, 'hedge': 1.0}.get(kind, 0.0)
    edges = np.linspace(z0, z1, pieces + 1).tolist()
    for a, b in pairwise(edges):
        ends = site.ground.point(lateral, a), site.ground.point(lateral, b)
        start, stop = ends if side < 0 else ends[::-1]
        repeat = ((b - a) / metres, 1.0 if kind in ('fence', 'planks') else (height + sink) / metres)
        base, edge = (start[0], start[1] - sink, start[2]), tuple(np.subtract(stop, start))
        site.faces.add(base, edge, (0, height + sink, 0), texture, paint, repeat, holes=kind == 'fence')
        if thickness:
            top, rim = (start[0], start[1] + height, start[2]), (side * thickness, 0, 0)
            site.faces.add(top, edge, rim, texture, paint, (repeat[0], thickness / metres))
        site.faces.add_shadow([(ends[0][0], a), (ends[1][0], b)], height * (0.5 if kind == 'fence' else 1.0))
    if thickness:
        x, y, _ = site.ground.point(lateral, z0)
        corner, tall = (x if side > 0 else x - thickness, y - sink, z0), height + sink
        site.faces.add(corner, (thickness, 0, 0), (0, tall, 0), texture, paint, (thickness / metres, tall / metres))


def line_side(site: Site, side: int, edge: float, z_end: float, style: str) -> None:
    """Fill one side of the street beyond lateral ``edge`` up to ``z_end``.

    ``style`` is 'city' (closed front), 'suburb' (houses behind gardens), 'park', 'industry' (walls, fences, halls) or 'open'.
    """
    rng = site.rng
    z = -6.0
    storey = rng.uniform(2.9, 3.7)
    typical = {'city': rng.integers(3, 8), 'suburb': 2, 'park': 3, 'industry': 2, 'open': 2}[style]
    while z < z_end:
        length = rng.uniform(9, 24)
        gap = next((b for a, b in site.plan.crossings if a - 1 < z + length and b + 1 > z), None)
        if gap is not None:
            start = next(a for a, b in site.plan.crossings if b == gap)
            length = start - 1.0 - z
            if length < 4:
                z = gap + 1.5
                continue
        _segment(site, side, edge, z, z + length, style, storey, int(typical))
        z += length + (0.0 if style == 'city' and rng.random() < 0.8 else rng.uniform(0.5, 5))


def _segment(site: Site, side: int, edge: float, z0: float, z1: float, style: str, storey: float, typical: int) -> None:
    rng = site.rng
    dice = rng.random()
    if style == 'city' and dice < 0.88:
        floors = max(1, typical + int(rng.integers(-2, 3)))
        setback = rng.uniform(0, 1) if rng.random() < 0.8 else rng.uniform(1, 5)
        house(site, side, edge + side * setback, z0, z1, floors, storey, rng.uniform(9, 14), rng.random() < 0.5)
    elif style == 'suburb' and dice < 0.85:
        setback = rng.uniform(3, 11)
        margin = min(rng.uniform(0.5, 4), (z1 - z0) / 4)
        floors, depth, pitched = int(rng.integers(1, 4)), rng.uniform(8, 11), rng.random() < 0.85
        house(site, side, edge + side * setback, z0 + margin, z1 - margin, floors, storey, depth, pitched)
        enclosure = site.draw_kind({'wall': 0.22, 'fence': 0.28, 'planks': 0.15, 'hedge': 0.2, 'none': 0.15})
        if enclosure != 'none':
            barrier(site, side, edge, z0, z1, rng.uniform(0.8, 1.8), enclosure)
        for _ in range(int(rng.integers(0, 4))):
            place = edge + side * rng.uniform(1, max(setback - 1, 1.2)), rng.uniform(z0, z1)
            site.tree(*place, rng.uniform(3, 8)) if rng.random() < 0.5 else site.bush(*place, rng.uniform(0.8, 2.2))
    elif style == 'industry' and dice < 0.85:
        height, kind = rng.uniform(1.6, 3.4), site.draw_kind({'wall': 0.5, 'fence': 0.35, 'planks': 0.15})
        barrier(site, side, edge + side * 0.3, z0, z1, height, kind)
        if rng.random() < 0.6:
            setback, floors, pitched = rng.uniform(4, 14), int(rng.integers(1, 4)), rng.random() < 0.3
            house(site, side, edge + side * setback, z0, z1 - 1, floors, storey * 1.2, 15, pitched)
        for _ in range(int(rng.integers(0, 3))):
            site.tree(edge + side * rng.uniform(2, 8), rng.uniform(z0, z1), rng.uniform(4, 10))
    else:
        if rng.random() < 0.3:
            height, kind = rng.uniform(0.7, 1.4), site.draw_kind({'fence': 1, 'wall': 1, 'hedge': 1})
            barrier(site, side, edge + side * 0.2, z0, z1, height, kind)
        for _ in range(int(rng.integers(3, 9)) if style != 'open' else int(rng.integers(0, 3))):
            place = edge + side * rng.uniform(1.5, 22), rng.uniform(z0, z1)
            site.tree(*place, rng.uniform(6, 16)) if rng.random() < 0.7 else site.bush(*place, rng.uniform(0.8, 2.5))


def close_view(site: Site, z_end: float, closed: bool) -> None:
    """The end of the street: a front or trees across it, and a skyline far behind."""
    rng, faces = site.rng, site.faces
    x, y, _ = site.ground.point(0, z_end)
    if closed:
        left = x - 70.0
        while left < x + 70:
            width, floors = rng.uniform(10, 22), int(rng.integers(2, 7))
            colours = [site.shade(site.pick(_PLASTER + _BRICK)), site.shade((58, 70, 82), 0.3), (220, 216, 208), (90, 70, 60)]
            paint = faces.add_paint(colours, BUILDING)
            z = z_end + rng.uniform(0, 4)
            bays = max(1, round(width / 3.2))
            faces.add((left, y - 2, z), (width, 0, 0), (0, floors * 3.2 + 2, 0), site.texture('bay'), paint, (bays, floors + 0.6))
            left += width
        for _ in range(int(rng.integers(0, 9))):
            site.tree(rng.uniform(-40, 40), z_end - rng.uniform(2, 10), rng.uniform(6, 13))
    else:
        for _ in range(int(rng.integers(12, 28))):
            site.tree(rng.uniform(-80, 80), z_end + rng.uniform(5, 80), rng.uniform(7, 16))
    distance = rng.uniform(330, 700)
    horizon = site.ground.y(distance)
    houses = rng.random() < 0.5
    colour = site.mix((96, 96, 100), (150, 146, 140)) if houses else site.mix((60, 80, 50), (90, 104, 76))
    paint = faces.add_paint([colour], BUILDING if houses else VEGETATION)
    tall = rng.uniform(15, 45) if houses else rng.uniform(12, 26)
    name = 'houses' if houses else 'treeline'
    for k in range(-3, 3):
        corner = (k * 320.0 + x, horizon - 4, distance)
        faces.add(corner, (320, 0, 0), (0, tall, 0), site.texture(name), paint, holes=True, facing_viewer=True)
