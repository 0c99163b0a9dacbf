"""The street's cross-section and its ground: road, markings, curbs, sidewalks, verges, crossings.

`StreetPlan` says what lies at a lateral coordinate (metres right of the camera, on the bent axis); `shade_ground` gives the
ground pixels their class and colour.
"""

from dataclasses import dataclass, field
from itertools import pairwise

import cv2
import numpy as np

from mtl_plugins.synthetic.streets.appearance import Weather
from mtl_plugins.synthetic.streets.atlas import LEVELS, MATERIALS, NEUTRAL_LUMINANCE, Atlas
from mtl_plugins.synthetic.streets.camera import Camera, Ground
from mtl_plugins.synthetic.streets.faces import FaceList
from mtl_plugins.synthetic.streets.labels import ROAD, SIDEWALK, TERRAIN
from mtl_plugins.synthetic.streets.renderer import (
    GROUND_FACE,
    NEAR,
    SUBPIXEL_BITS,
    Buffers,
    Canvas,
    clip_near,
    fixed_point,
    level_of_detail,
)

# Kinds of ground, with class, texture name and metres per tile.
ASPHALT, PARKING, PAVING, CURB, GRASS, TRACK_BED, CYCLE_PATH, SQUARE = range(8)
_KINDS = (
    (ROAD, 'asphalt', 6.0), (ROAD, 'asphalt', 3.0), (SIDEWALK, 'slabs', 4.0), (SIDEWALK, 'curb', 3.0),
    (TERRAIN, 'grass', 5.0), (ROAD, 'asphalt', 2.5), (SIDEWALK, 'asphalt', 6.0), (SIDEWALK, 'slabs', 7.0),
)  # fmt: skip
_STEP = 0.025
_REACH = 90.0
_BLURS = (0.05, 0.3, 1.2)
_PAINT_STEPS = 12
_SHADOW_REACH = 90.0


@dataclass
class StreetPlan:
    """The materials of the ground.

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
    return np.clip((lateral + _REACH) * (1 / _STEP), 0, 2 * _REACH / _STEP - 1).astype(np.int64)


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
    plan: StreetPlan, buffers: Buffers, camera: Camera, ground: Ground, atlas: Atlas, light: np.ndarray, canvas: Canvas
) -> None:
    """Class and colour of the ground's pixels; ``light (H, W)``: how much reaches the ground."""
    flat = np.flatnonzero(buffers.face.ravel() == GROUND_FACE)
    y, x = np.divmod(flat.astype(np.int32), np.int32(camera.width))
    x, y = x.astype(np.float32), y.astype(np.float32)
    depth = 1 / buffers.inverse_depth.ravel().take(flat)
    beyond = buffers.beyond_hinge.ravel().take(flat)
    near, far = ground.plane_maps(camera).astype(np.float32)
    position = []
    for row in (0, 1):
        value = near[row, 0] * x + near[row, 1] * y + near[row, 2]
        if beyond.any():
            value = np.where(beyond, far[row, 0] * x + far[row, 1] * y + far[row, 2], value)
        position.append(value * depth)
    across, along = position
    lateral = across - ground.axis_x(along).astype(np.float32) if ground.bend else across
    slot = _index(lateral)
    kind = _band_table(plan).take(slot)
    in_crossing = np.zeros(len(flat), bool)
    for z0, z1 in plan.crossings:
        in_crossing |= (along > z0) & (along < z1)
    kind[in_crossing] = ASPHALT
    luminance = _ground_texture(plan, atlas, kind, across, along, depth, camera)
    canvas.label[flat] = np.array([k[0] for k in _KINDS], np.uint8).take(kind)
    paint = _painted(plan, lateral, along, depth, camera, slot, in_crossing)
    colours, white = np.array(plan.colours)[:, None], np.array([205, 205, 200])
    steps = np.arange(_PAINT_STEPS)[:, None] / (_PAINT_STEPS - 1)
    base = canvas.add_colours((colours + (white - colours) * steps).reshape(-1, 3))
    canvas.entry[flat] = base + kind * _PAINT_STEPS + (paint * (_PAINT_STEPS - 0.51)).astype(np.int64)
    canvas.brightness[flat] = luminance * light.ravel().take(flat) / np.float32(NEUTRAL_LUMINANCE)


def _ground_texture(plan: StreetPlan, atlas: Atlas, kind, across, along, depth, camera: Camera) -> np.ndarray:
    """Luminance of the ground, 0..255."""
    names = [atlas.variants[name] for _, name, _ in _KINDS]
    texture = np.array([variants[plan.texture_variant % len(variants)] for variants in names])
    metres = np.array([m for _, _, m in _KINDS])
    size = atlas.width[texture, 0]
    texels_per_metre = (size / metres).astype(np.float32)
    density = texels_per_metre[kind]
    level = level_of_detail(density * depth * np.float32(1.6 / camera.focal))
    slot = kind * LEVELS + level
    width, height, offset = (table[texture].ravel().take(slot) for table in (atlas.width, atlas.height, atlas.offset))
    scale = density / (1 << level)
    column = ((across + 512) * scale).astype(np.int64) & (width - 1)
    row = ((along + 512) * scale).astype(np.int64) & (height - 1)
    texel = atlas.texels.take(offset + row * width + column)
    return (texel >> 3) * (1 - np.float32(0.18) * ((texel & (MATERIALS - 1)) > 0))


def _painted(plan: StreetPlan, lateral, along, depth, camera: Camera, slot, in_crossing) -> np.ndarray:
    """Share of paint per ground pixel; the tables are blurred by about a pixel's footprint."""
    footprint = depth / camera.focal
    blur = (footprint > 0.12).astype(np.int64) + (footprint > 0.6)
    tables = _paint_tables(plan)
    slots = tables.shape[-1]
    paint = tables[:, 0].ravel().take(blur * slots + slot)
    dashed = [line for line in plan.lines if line[3] > 0]
    if dashed:
        _, _, dash, gap = dashed[0]
        paint += tables[:, 1].ravel().take(blur * slots + slot) * (np.mod(along, np.float32(dash + gap)) < dash)
    paint *= ~in_crossing
    for z0, z1 in plan.zebras:
        near = np.flatnonzero((along > z0 - 1) & (along < z1 + 1) & (lateral > plan.road[0]) & (lateral < plan.road[1]))
        stripes = (np.mod(lateral[near], 1.0) < 0.5) & (along[near] > z0) & (along[near] < z1)
        paint[near] = stripes * np.minimum(1, 25 / depth[near])
    paint *= plan.line_brightness
    if plan.rails:
        rails = plan.rails
        near = np.flatnonzero((lateral > rails[0] - 1) & (lateral < rails[-1] + 1) & ~in_crossing)
        shine = np.zeros(len(near), np.float32)
        for rail in rails:
            shine = np.maximum(shine, 1.4 - np.abs(lateral[near] - rail) / np.maximum(0.07, 0.5 * footprint[near]))
        paint[near] = np.clip(shine, 0, 1) * np.minimum(0.45, 30 / depth[near])
    return np.clip(paint, 0, 1)


def ground_light(faces: FaceList, buffers: Buffers, camera: Camera, ground: Ground, weather: Weather) -> np.ndarray:
    """``(H, W)`` float32: light on the ground, from the sun (less cast shadows) and the sky (less contact shadows)."""
    sun = weather.sun_strength * weather.sun[1]
    sunlit = np.zeros(buffers.face.shape, np.uint8)
    if weather.sun_strength > 0.2:
        shift = np.array([weather.sun[0], 0, weather.sun[2]]) / max(weather.sun[1], 0.2)
        prisms = [(outline, bottom, top) for outline, bottom, top in faces.shadows if outline[0][1] < _SHADOW_REACH]
        outlines = []
        for outline, bottom, top in prisms:
            base = np.array([(x, ground.y(z), z) for x, z in outline])
            low, high = base - shift * bottom, base - shift * top
            outlines.append(np.concatenate([low, high]))
        _fill_on_ground(sunlit, outlines, camera, ground)
    contact = np.zeros(buffers.face.shape, np.uint8)
    outlines = [np.array([(x, ground.y(z), z) for x, z in outline]) for outline in faces.contacts]
    _fill_on_ground(contact, outlines, camera, ground)
    light = (sun + weather.ambient) - cv2.blur(sunlit, (3, 3)).astype(np.float32) * np.float32(sun / 255)
    return light * (1 - cv2.blur(contact, (5, 5)).astype(np.float32) * np.float32(0.75 / 255))


def _fill_on_ground(mask: np.ndarray, outlines: list[np.ndarray], camera: Camera, ground: Ground) -> None:
    """Fill the hulls of points on the ground ``(K, 3)``; their heights are set to the ground's."""
    if not outlines:
        return
    points = np.concatenate(outlines)
    z = points[:, 2]
    points[:, 1] = ground.slope_near * np.minimum(z, ground.hinge) + ground.slope_far * np.maximum(z - ground.hinge, 0)
    seen = camera.to_camera(points)
    starts = np.cumsum([0] + [len(outline) for outline in outlines]).tolist()
    front = seen[:, 2] > NEAR
    pixels = camera.project(np.where(front[:, None], seen, (0, 0, 1)))
    for a, b in pairwise(starts):
        if front[a:b].all():
            polygon = pixels[a:b]
        elif front[a:b].any():
            hull = cv2.convexHull(points[a:b, [0, 2]].astype(np.float32), returnPoints=False)[:, 0]
            polygon = camera.project(clip_near(seen[a:b][hull]))
        else:
            continue
        cv2.fillConvexPoly(mask, cv2.convexHull(fixed_point(polygon)), 255, shift=SUBPIXEL_BITS)
