"""The street's cross-section and its ground: road, markings, curbs, sidewalks, verges, crossings.

`StreetPlan` says what lies at a lateral coordinate (metres right of the camera, on the bent axis); `shade_ground` gives the
ground pixels their class and colour.
"""

from dataclasses import dataclass, field

import cv2
import numpy as np

from mtl_plugins.datasets.synthetic.atlas import LEVELS, MATERIALS, NEUTRAL_LUMINANCE, Atlas
from mtl_plugins.datasets.synthetic.camera import Camera, Ground
from mtl_plugins.datasets.synthetic.faces import FaceList
from mtl_plugins.datasets.synthetic.labels import ROAD, SIDEWALK, TERRAIN
from mtl_plugins.datasets.synthetic.renderer import GROUND_FACE, Buffers, project_polygons

# Kinds of ground, with class, texture name and metres per tile.
ASPHALT, PARKING, PAVING, CURB, GRASS, TRACK_BED, CYCLE_PATH, SQUARE = range(8)
_KINDS = (
    (ROAD, 'asphalt', 6.0), (ROAD, 'asphalt', 3.0), (SIDEWALK, 'slabs', 4.0), (SIDEWALK, 'curb', 3.0),
    (TERRAIN, 'grass', 5.0), (ROAD, 'asphalt', 2.5), (SIDEWALK, 'asphalt', 6.0), (SIDEWALK, 'slabs', 7.0),
)  # fmt: skip
_STEP = 0.025
_REACH = 90.0
_BLURS = (0.05, 0.3, 1.2)


@dataclass
class StreetPlan:
    """What the ground is made of.

    Attributes:
        bands: ``(left, right, kind)`` in lateral metres, later ones over earlier ones.
        lines: ``(lateral, width, dash, gap)`` of painted lines; ``gap`` 0 for a continuous one.
        rails: Lateral positions of rails.
        crossings: ``(z0, z1)`` of crossing streets.
        zebras: ``(z0, z1)`` of zebra stripes over the road.
        road: ``(left, right)`` of the carriageway.
        colours: One RGB colour per kind of ground.
        texture_variant: Picks among the variants of a texture.
        line_brightness: How fresh the paint is, 0..1.
    """

    road: tuple[float, float]
    bands: list[tuple[float, float, int]] = field(default_factory=list)
    lines: list[tuple[float, float, float, float]] = field(default_factory=list)
    rails: list[float] = field(default_factory=list)
    crossings: list[tuple[float, float]] = field(default_factory=list)
    zebras: list[tuple[float, float]] = field(default_factory=list)
    colours: list[tuple[float, float, float]] = field(default_factory=list)
    texture_variant: int = 0
    line_brightness: float = 1.0

    def in_crossing(self, z0: float, z1: float, margin: float = 0.0) -> bool:
        return any(z1 > a - margin and z0 < b + margin for a, b in self.crossings)


def _index(lateral):
    return np.clip((np.asarray(lateral) + _REACH) / _STEP, 0, 2 * _REACH / _STEP - 1).astype(np.int64)


def _band_table(plan: StreetPlan) -> np.ndarray:
    table = np.full(int(2 * _REACH / _STEP), plan.bands[0][2], np.int64)
    for left, right, kind in plan.bands:
        table[_index(left) : _index(right)] = kind
    return table


def _paint_tables(plan: StreetPlan) -> np.ndarray:
    """``(3 blurs, 2 continuous | dashed, S)`` share of paint across the street, blurred for more distant ground."""
    tables = np.zeros((len(_BLURS), 2, int(2 * _REACH / _STEP)), np.float32)
    for lateral, width, _, gap in plan.lines:
        tables[:, int(gap > 0), _index(lateral - width / 2) : _index(lateral + width / 2)] = 1
    for k, blur in enumerate(_BLURS):
        tables[k] = cv2.blur(tables[k], (max(1, round(blur / _STEP)), 1))
    return tables


def shade_ground(
    plan: StreetPlan, buffers: Buffers, camera: Camera, ground: Ground, atlas: Atlas, light: float, label: np.ndarray, colour: np.ndarray
) -> None:
    """Fills ``label`` and ``colour`` of the ground's pixels in place."""
    flat = np.flatnonzero(buffers.face.ravel() == GROUND_FACE)
    if not len(flat):
        return
    y, x = np.divmod(flat.astype(np.int32), np.int32(camera.width))
    x, y = x.astype(np.float32), y.astype(np.float32)
    depth = 1 / buffers.inverse_depth.ravel()[flat]
    beyond = buffers.beyond_hinge.ravel()[flat]
    near, far = ground.plane_maps(camera).astype(np.float32)
    position = []
    for row in (0, 1):
        value = near[row, 0] * x + near[row, 1] * y + near[row, 2]
        if beyond.any():
            value = np.where(beyond, far[row, 0] * x + far[row, 1] * y + far[row, 2], value)
        position.append(value * depth)
    across, along = position
    if ground.slope_near != ground.slope_far:
        along = along + beyond * np.float32(0)
    lateral = across - ground.axis_x(along).astype(np.float32)
    slot = _index(lateral)
    kind = _band_table(plan)[slot]
    on_road = (lateral > plan.road[0]) & (lateral < plan.road[1])
    in_crossing = np.zeros(len(flat), bool)
    for z0, z1 in plan.crossings:
        in_crossing |= (along > z0) & (along < z1)
    kind[in_crossing] = ASPHALT
    luminance, material = _ground_texture(plan, atlas, kind, across, along, depth, camera)
    classes = np.array([k[0] for k in _KINDS], np.uint8)
    label.ravel()[flat] = classes[kind]
    colours = np.array(plan.colours, np.float32)
    pixel = colours[kind] * (luminance * (light / NEUTRAL_LUMINANCE) * (1 - 0.18 * (material > 0)))[:, None]
    paint = _painted(plan, lateral, along, depth, camera, slot, on_road, in_crossing)
    pixel += paint[:, None] * (np.array([205, 205, 200], np.float32) * light - pixel)
    for rail in plan.rails:
        shine = np.clip(1.4 - np.abs(lateral - rail) / np.maximum(0.07, 0.5 * depth / camera.focal), 0, 1) * ~in_crossing
        shine *= np.minimum(1, 60.0 / depth)
        pixel += (shine * 0.8)[:, None] * (np.array([120, 115, 112], np.float32) * light - pixel)
    colour.reshape(-1, 3)[flat] = pixel


def _ground_texture(plan, atlas: Atlas, kind, across, along, depth, camera: Camera) -> tuple[np.ndarray, np.ndarray]:
    names = [atlas.variants[name] for _, name, _ in _KINDS]
    texture = np.array([variants[plan.texture_variant % len(variants)] for variants in names])
    metres = np.array([m for _, _, m in _KINDS])
    size = atlas.width[texture, 0]
    texels_per_metre = (size / metres).astype(np.float32)
    density = texels_per_metre[kind]
    level = np.clip(np.frexp(density * depth * (1.6 / camera.focal))[1], 0, LEVELS - 1)
    slot = kind * LEVELS + level
    width, height, offset = (table[texture].ravel()[slot] for table in (atlas.width, atlas.height, atlas.offset))
    scale = np.ldexp(density, -level)
    column = np.floor((across + 512) * scale).astype(np.int64) & (width - 1)
    row = np.floor((along + 512) * scale).astype(np.int64) & (height - 1)
    texel = atlas.texels[offset + row * width + column]
    return (texel >> 3).astype(np.float32), texel & (MATERIALS - 1)


def _painted(plan, lateral, along, depth, camera: Camera, slot, on_road, in_crossing) -> np.ndarray:
    """Share of paint per ground pixel; the tables are blurred by about a pixel's footprint."""
    footprint = depth / camera.focal
    blur = (footprint > 0.12).astype(np.int64) + (footprint > 0.6)
    tables = _paint_tables(plan)
    paint = tables[blur, 0, slot]
    dashed = [line for line in plan.lines if line[3] > 0]
    if dashed:
        _, _, dash, gap = dashed[0]
        phase = np.mod(along, dash + gap)
        paint = paint + tables[blur, 1, slot] * (phase < dash)
    paint = paint * ~in_crossing
    for z0, z1 in plan.zebras:
        stripes = (np.mod(lateral, 1.0) < 0.5) & (along > z0) & (along < z1) & on_road
        paint = np.where((along > z0 - 1) & (along < z1 + 1) & on_road, stripes * np.minimum(1, 25 / depth), paint)
    return np.clip(paint, 0, 1) * np.float32(plan.line_brightness)


def shadow_image(faces: FaceList, buffers: Buffers, camera: Camera, ground: Ground, sun: np.ndarray, softness: int) -> np.ndarray:
    """``(H, W)`` float32, share of sunlight the ground keeps (1 = lit), from the shadows of all prisms.

    Args:
        sun: ``(3,)`` unit vector toward the sun.
        softness: Width of the blur in pixels (odd).
    """
    mask = np.zeros(buffers.face.shape, np.uint8)
    shift = np.array([sun[0], sun[2]]) / max(sun[1], 0.2)
    for outline, bottom, top in faces.shadows:
        base = np.asarray(outline, np.float32)
        hull = cv2.convexHull(np.concatenate([base - (shift * bottom).astype(np.float32), base - (shift * top).astype(np.float32)]))[:, 0]
        _fill_on_ground(mask, hull, camera, ground)
    if softness > 1:
        mask = cv2.blur(mask, (softness, softness))
    return 1 - mask.astype(np.float32) / 255


def contact_image(faces: FaceList, buffers: Buffers, camera: Camera, ground: Ground) -> np.ndarray:
    """``(H, W)`` float32, share of sky light that reaches the ground under and beside objects."""
    mask = np.zeros(buffers.face.shape, np.uint8)
    for outline in faces.contacts:
        _fill_on_ground(mask, np.asarray(outline, np.float32), camera, ground)
    return 1 - cv2.blur(mask, (5, 5)).astype(np.float32) * (0.75 / 255)


def _fill_on_ground(mask: np.ndarray, outline: np.ndarray, camera: Camera, ground: Ground) -> None:
    points = np.array([(x, ground.y(z), z) for x, z in outline.tolist()])
    (polygon,) = project_polygons(camera, points[None])
    if polygon is not None:
        polygon = np.clip(polygon, -20000, 20000)
        cv2.fillConvexPoly(mask, np.rint(polygon * 16).astype(np.int32), 255, shift=4)
