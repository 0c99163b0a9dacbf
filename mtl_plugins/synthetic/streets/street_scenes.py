"""Random streets: camera, cross-section, what lines them, and who uses them; rendered from (seed, split, index) to arrays."""

from dataclasses import dataclass

import numpy as np

from mtl_plugins.synthetic.streets.appearance import Weather, photograph, sample_weather, shade_sky
from mtl_plugins.synthetic.streets.assets import Assets, load_assets
from mtl_plugins.synthetic.streets.camera import Camera, Ground
from mtl_plugins.synthetic.streets.faces import FaceList
from mtl_plugins.synthetic.streets.frontage import barrier, close_view, line_side
from mtl_plugins.synthetic.streets.renderer import (
    SKY_FACE,
    Canvas,
    depth_map,
    draw_faces,
    ground_buffers,
    normal_map,
    shade_faces,
)
from mtl_plugins.synthetic.streets.site import Site
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
    ground_light,
    shade_ground,
)

SPLITS = ('train', 'val', 'test')
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


@dataclass(frozen=True)
class Scene:
    """All the renderer needs."""

    camera: Camera
    ground: Ground
    plan: StreetPlan
    faces: FaceList
    weather: Weather


@dataclass(frozen=True)
class Rendering:
    """``image (H, W, 3)`` uint8 RGB, ``label (H, W)`` uint8 class, ``depth (H, W)`` float32 metres (infinite: sky), and if
    asked for ``normals (H, W, 3)`` float32 unit vectors, x right, y up, z towards the camera (zero: sky)."""

    image: np.ndarray
    label: np.ndarray
    depth: np.ndarray
    normals: np.ndarray | None = None


def render_scene(scene: Scene, with_normals: bool = False) -> Rendering:
    """Render a scene with the shared assets."""
    assets = load_assets()
    camera, weather, faces = scene.camera, scene.weather, scene.faces
    buffers = ground_buffers(camera, scene.ground)
    arrays = draw_faces(buffers, camera, faces, assets.atlas, weather.sun * weather.sun_strength, weather.ambient)
    canvas = Canvas(camera.height, camera.width)
    shade_faces(buffers, arrays, faces, camera, assets.atlas, canvas)
    light = ground_light(faces, buffers, camera, scene.ground, weather)
    shade_ground(scene.plan, buffers, camera, scene.ground, assets.atlas, light, canvas)
    shade_sky(weather, camera, buffers.face == SKY_FACE, assets.clouds, canvas)
    depth = depth_map(buffers)
    normals = normal_map(buffers, arrays, camera, scene.ground) if with_normals else None
    image = photograph(weather, canvas, depth, assets.noise)
    return Rendering(image, canvas.label.reshape(canvas.shape), depth, normals)


def render_sample(seed: int, split: str, index: int, size: tuple[int, int], with_normals: bool = False) -> Rendering:
    """The sample that belongs to (seed, split, index), whatever else is rendered."""
    rng = np.random.default_rng([seed, SPLITS.index(split), index])
    return render_scene(sample_scene(rng, size, load_assets()), with_normals)


def sample_scene(rng: np.random.Generator, size: tuple[int, int], assets: Assets) -> Scene:
    """A random scene for an image of ``size`` (height, width)."""
    height, width = size
    camera = Camera(
        height, width,
        focal=width * rng.uniform(0.72, 1.1),
        elevation=rng.uniform(1.25, 2.1) if rng.random() < 0.85 else rng.uniform(2.1, 3.2),
        yaw=rng.normal(0, 0.045) if rng.random() < 0.8 else rng.uniform(-0.25, 0.25),
        pitch=rng.normal(0.045, 0.035),
        roll=rng.normal(0, 0.012),
    )  # fmt: skip
    sloped = rng.random() < 0.5
    near_slope = rng.normal(0, 0.02) if sloped else 0.0
    ground = Ground(
        slope_near=near_slope,
        slope_far=near_slope + rng.normal(0, 0.035) if sloped else 0.0,
        hinge=rng.uniform(18, 70),
        bend=rng.normal(0, 1 / 350) if rng.random() < 0.55 else 0.0,
    )
    z_end = rng.uniform(28, 75) if rng.random() < 0.3 else rng.uniform(75, 260)
    plan, lanes, sides = sample_cross_section(rng, z_end)
    site = Site(rng, assets, ground, plan, FaceList())
    _guests(site, lanes, sides)
    for side in sides:
        line_side(site, side.sign, side.back, z_end, side.style)
        _furnish(site, side, z_end)
    close_view(site, z_end, closed=rng.random() < 0.6)
    _traffic(site, lanes, z_end)
    _crossings(site, sides)
    return Scene(camera, ground, plan, site.faces, sample_weather(rng))


def _furnish(site: Site, side: Side, z_end: float) -> None:
    """Trees, poles, signs, people and parked cycles of one sidewalk."""
    rng = site.rng
    grey = site.mix((84, 88, 90), (170, 172, 172))
    strip = side.curb + side.sign * 0.75
    if rng.random() < 0.45 and side.walk > 2.2:
        spacing, height = rng.uniform(7, 15), rng.uniform(6, 13)
        for z in np.arange(rng.uniform(5, 5 + spacing), min(z_end, 130), spacing):
            if not site.plan.in_crossing(z, z, 2):
                site.tree(strip + rng.normal(0, 0.15), z + rng.normal(0, 0.4), height * rng.uniform(0.8, 1.15), conifers=False)
    if rng.random() < 0.7:
        spacing = rng.uniform(14, 32)
        for z in np.arange(rng.uniform(5, spacing), min(z_end, 150), spacing):
            site.lamp_post(strip, z, side.sign)
    if rng.random() < 0.15:
        for z in np.arange(rng.uniform(4, 7), 40, rng.uniform(1.8, 3)):
            site.post(side.curb + side.sign * 0.45, z, rng.uniform(0.85, 1.0), 0.16, grey)
    for _ in range(rng.poisson(1.3)):
        site.sign(strip, 8 + rng.exponential(20), grey)
    if rng.random() < 0.14 and side.style != 'city':
        start = rng.uniform(3, 14)
        barrier(site, side.sign, side.curb + side.sign * 0.5, start, start + rng.uniform(12, 40), rng.uniform(0.9, 1.2), 'fence')
    walkable = max(side.walk - 1.2, 0.4)
    for _ in range(rng.poisson(7.0 if side.style == 'city' else 3.2)):
        z = 5.5 + rng.exponential(17)
        lateral = side.curb + side.sign * (0.9 + rng.random() * walkable)
        site.person(lateral, z)
        if rng.random() < 0.4:
            site.person(lateral + side.sign * 0.65, z + rng.uniform(-0.2, 0.3))
    if rng.random() < 0.45:
        z, along = 5 + rng.exponential(13), rng.random() < 0.3
        lateral = side.curb + side.sign * (0.7 if rng.random() < 0.5 else max(side.walk - 0.6, 0.8))
        for k in range(int(rng.integers(2, 9))):
            site.cycle('bicycle', lateral, z + k * rng.uniform(0.5, 0.9), 0.0 if along else rng.uniform(0.5, 1.0))


def _traffic(site: Site, lanes: list[Lane], z_end: float) -> None:
    rng = site.rng
    reach = min(z_end - 6, 150)
    density = rng.uniform(0.25, 1.05)
    for lane in lanes:
        if lane.use in ('green', 'barrier', 'tram'):
            _middle(site, lane, z_end)
            continue
        own = abs(lane.lateral) < 1.7
        z = rng.uniform(2.5, 9) if lane.use == 'parking' else 6 + rng.exponential((14 if own else 9) / density)
        full = rng.uniform(0.4, 0.95)
        while z < reach:
            if lane.use == 'parking':
                if rng.random() < full and not site.plan.in_crossing(z - 1, z + 5, 1):
                    kind = site.draw_kind({'car': 0.95, 'truck': 0.005, 'motorcycle': 0.045})
                    if kind == 'motorcycle':
                        site.cycle('motorcycle', lane.lateral, z + 1, site.pick((0.0, 0.7, 1.0)))
                    else:
                        site.vehicle(kind, lane.lateral + rng.normal(0, 0.08), z + 2.4, lane.oncoming)
                z += rng.uniform(5.2, 6.4)
                continue
            kind = site.draw_kind({'car': 0.88, 'truck': 0.025, 'bus': 0.015, 'biker': 0.03, 'cyclist': 0.05})
            if kind in ('biker', 'cyclist'):
                site.cycle(kind, lane.lateral + rng.normal(0.4, 0.4), z, 0.0 if rng.random() < 0.7 else 0.55)
                length = 2.0
            else:
                half = {'car': 2.4, 'truck': 4.5, 'bus': 6.3}[kind]
                length = site.vehicle(kind, lane.lateral + rng.normal(0, 0.15), z + half, lane.oncoming, rng.normal(0, 0.02))
            z += length + 2.5 + rng.exponential(16 / density)


def _middle(site: Site, lane: Lane, z_end: float) -> None:
    rng = site.rng
    if lane.use == 'barrier':
        sign, height, kind = 1 if lane.lateral > 0 else -1, rng.uniform(0.7, 1.1), site.draw_kind({'wall': 1, 'fence': 1})
        barrier(site, sign, lane.lateral, 1.0, min(z_end, 90), height, kind)
    elif lane.use == 'green':
        for z in np.arange(rng.uniform(5, 12), min(z_end, 120), rng.uniform(6, 14)):
            if rng.random() < 0.6:
                site.tree(lane.lateral, z, rng.uniform(4, 9))
            else:
                site.bush(lane.lateral, z, rng.uniform(0.6, 1.4))
    else:
        for offset, oncoming in ((1.675, False), (-1.675, True)):
            if rng.random() < 0.5:
                site.vehicle('tram', lane.lateral + offset, 17 + rng.exponential(16), oncoming)


def _crossings(site: Site, sides: list[Side]) -> None:
    """Lights, people and turning traffic at crossing streets."""
    rng = site.rng
    grey = site.mix((60, 64, 66), (165, 166, 164))
    for z0, z1 in site.plan.crossings:
        if rng.random() < 0.7:
            overhead = rng.random() < 0.4
            for side in sides:
                site.traffic_light(side.curb + side.sign * 0.6, z0 - 1.2, side.sign, grey, overhead and side.sign > 0)
                if rng.random() < 0.6:
                    site.traffic_light(side.curb + side.sign * 0.6, z1 + 1.2, side.sign, grey, False)
        for _ in range(rng.poisson(1.1)):
            kind = site.draw_kind({'car': 0.9, 'truck': 0.05, 'bus': 0.05})
            site.vehicle(kind, rng.uniform(-22, 22), rng.uniform(z0 + 1.6, z1 - 1.6), turn=site.pick((-1, 1)) * np.pi / 2)
        for _ in range(rng.poisson(1.6)):
            site.person(rng.uniform(sides[0].curb, sides[1].curb), z0 - rng.uniform(1.4, 4.2))
        if rng.random() < 0.3:
            site.cycle('cyclist', rng.uniform(-7, 7), rng.uniform(z0, z1), rng.uniform(0.7, 1))


def _guests(site: Site, lanes: list[Lane], sides: list[Side]) -> None:
    """Rare road users near enough to be learned, which would otherwise cover hardly a pixel."""
    rng = site.rng
    traffic = [lane for lane in lanes if lane.use == 'traffic']
    right = sides[1].curb
    if rng.random() < 0.17:
        lane = site.pick(traffic)
        kind = site.draw_kind({'truck': 1, 'bus': 1})
        site.vehicle(kind, lane.lateral, rng.uniform(13, 32), lane.oncoming, rng.normal(0, 0.03))
    if rng.random() < 0.3:
        kind = site.draw_kind({'cyclist': 0.55, 'biker': 0.45})
        lateral = (
            rng.uniform(1.2, max(right - 0.8, 1.5)) if rng.random() < 0.6 else rng.uniform(min(sides[0].curb + 0.8, -1.1), -1.0)
        )
        site.cycle(kind, lateral, rng.uniform(5.5, 15), 0.0 if rng.random() < 0.55 else rng.uniform(0.5, 1.0))
    if rng.random() < 0.15:
        side = site.pick(sides)
        z = rng.uniform(5, 14)
        for k in range(int(rng.integers(1, 4))):
            site.cycle('motorcycle', side.curb + side.sign * 0.8, z + 1.3 * k, site.pick((0.0, 0.6, 1.0)))


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
