"""A building site for one scene, and the small things that stand on it: trees, people, cycles, poles, signs, vehicles."""

import math
from dataclasses import dataclass, field

import numpy as np

from mtl_plugins.synthetic.streets import labels
from mtl_plugins.synthetic.streets.assets import Assets
from mtl_plugins.synthetic.streets.camera import Ground
from mtl_plugins.synthetic.streets.faces import Colour, FaceList, street_axes
from mtl_plugins.synthetic.streets.sprites import SIZES
from mtl_plugins.synthetic.streets.street import StreetPlan

# Colours (RGB, 0..255), each varied a little where it is used.
CAR_COLOURS = ((28, 28, 32), (60, 62, 68), (120, 124, 130), (188, 190, 194), (232, 232, 230), (150, 26, 30), (30, 54, 120),
                (22, 78, 60), (196, 150, 40), (96, 60, 40), (70, 110, 150), (205, 90, 40))  # fmt: skip
CLOTHES = ((30, 32, 40), (46, 60, 96), (90, 94, 100), (150, 40, 44), (40, 84, 60), (210, 204, 196), (196, 150, 60),
            (120, 70, 110), (60, 120, 160), (84, 66, 52), (230, 120, 60), (16, 18, 20))  # fmt: skip
SKINS = ((236, 194, 164), (214, 168, 134), (168, 120, 90), (110, 76, 56))
HAIRS = ((40, 30, 26), (90, 62, 40), (170, 136, 90), (130, 130, 130), (24, 22, 24))
LIVERIES = {
    'truck': ((220, 222, 224), (180, 36, 36), (40, 70, 140), (230, 180, 50), (60, 100, 70), (96, 100, 106), (226, 110, 40)),
    'bus': ((196, 40, 44), (230, 190, 60), (226, 226, 222), (50, 96, 160), (60, 130, 80), (120, 60, 120)),
    'tram': ((232, 196, 56), (190, 34, 40), (228, 228, 224), (50, 110, 80), (40, 90, 150)),
}
_VEHICLE_CLASSES = {'car': labels.CAR, 'truck': labels.TRUCK, 'bus': labels.BUS, 'tram': labels.TRAIN}
_CLAIM_REACH = 60.0
_CIRCLES = {n: [(math.cos(2 * math.pi * k / n), math.sin(2 * math.pi * k / n)) for k in range(n)] for n in (4, 6, 8)}


@dataclass
class Site:
    """The place where a scene is built. Positions are (lateral, z) on the street, in metres."""

    rng: np.random.Generator
    assets: Assets
    ground: Ground
    plan: StreetPlan
    faces: FaceList
    taken: list[tuple[float, float, float, float]] = field(default_factory=list)

    def claim(self, lateral: float, z: float, width: float, length: float) -> bool:
        """Reserve a patch of ground so that no two things stand in each other; False if it is taken already.

        What is farther than `_CLAIM_REACH` may overlap: nobody sees it, and the check would cost more than the drawing.
        """
        if z > _CLAIM_REACH:
            return True
        left, right, near, far = lateral - width / 2, lateral + width / 2, z - length / 2, z + length / 2
        for a, b, c, d in self.taken:
            if left < b and right > a and near < d and far > c:
                return False
        self.taken.append((left, right, near, far))
        return True

    def texture(self, name: str) -> int:
        return self.pick(self.assets.atlas.variants[name])

    def pick(self, options):
        return options[int(self.rng.random() * len(options))]

    def draw_kind(self, shares: dict[str, float]) -> str:
        """One of the keys, with probability in proportion to its value."""
        dice = self.rng.random() * sum(shares.values())
        for kind, share in shares.items():
            dice -= share
            if dice < 0:
                return kind
        return kind

    def shade(self, colour: Colour, spread: float = 0.15) -> Colour:
        """A colour somewhat lighter or darker, and a little off in hue."""
        a, b, c, d = self.rng.random(4).tolist()
        factor = 1 + spread * (2 * a - 1)
        return (
            colour[0] * factor * (0.94 + 0.12 * b),
            colour[1] * factor * (0.94 + 0.12 * c),
            colour[2] * factor * (0.94 + 0.12 * d),
        )

    def mix(self, low: Colour, high: Colour) -> Colour:
        """A colour between two, mostly along the line between them."""
        common, *own = self.rng.random(4).tolist()
        return tuple(a + (b - a) * (0.7 * common + 0.3 * r) for a, b, r in zip(low, high, own, strict=True))

    def disc(self, lateral: float, z: float, radius: float, corners: int = 8) -> list[tuple[float, float]]:
        """Corners of a regular polygon in world (X, Z)."""
        x, _, _ = self.ground.point(lateral, z)
        return [(x + radius * c, z + radius * s) for c, s in _CIRCLES[corners]]

    def tree(self, lateral: float, z: float, height: float, conifers: bool = True) -> None:
        if not self.claim(lateral, z, 0.5, 0.5):
            return
        conifer = conifers and self.rng.random() < 0.15
        green = self.mix((58, 84, 30), (112, 132, 62))
        if self.rng.random() < 0.12 and not conifer:
            green = self.mix((130, 96, 30), (150, 110, 60))
        light = tuple(1.25 * c for c in green)
        paint = self.faces.add_paint([green, light, self.shade((92, 74, 58))], labels.VEGETATION)
        width = height * (0.5 if conifer else self.rng.uniform(0.7, 1.0))
        texture, mirrored = self.texture('conifer' if conifer else 'tree'), self.rng.random() < 0.5
        self.faces.add_billboard(self.ground.point(lateral, z), width, height, texture, paint, mirrored)
        self.faces.add_shadow(self.disc(lateral, z, 0.36 * width), height * 0.95, height * 0.35)
        self.faces.add_shadow(self.disc(lateral, z, 0.15, 4), height * 0.5)

    def bush(self, lateral: float, z: float, height: float) -> None:
        green = self.mix((52, 80, 30), (110, 128, 58))
        paint = self.faces.add_paint([green, tuple(1.25 * c for c in green)], labels.VEGETATION)
        width = height * self.rng.uniform(1.2, 2.2)
        self.faces.add_billboard(self.ground.point(lateral, z), width, height, self.texture('bush'), paint)
        self.faces.add_shadow(self.disc(lateral, z, 0.4 * width), height * 0.7)

    def _clothes(self) -> list[Colour]:
        shirt_and_trousers = (self.shade(self.pick(CLOTHES)) for _ in range(2))
        return [self.shade(self.pick(SKINS), 0.1), self.shade(self.pick(HAIRS)), *shirt_and_trousers]

    def person(self, lateral: float, z: float) -> None:
        if not self.claim(lateral, z, 0.5, 0.4):
            return
        height = self.rng.uniform(1.58, 1.92) if self.rng.random() < 0.92 else self.rng.uniform(1.1, 1.4)
        colours = [*self._clothes(), self.shade((40, 36, 34)), self.shade(self.pick(CLOTHES))]
        paint = self.faces.add_paint(colours, labels.PERSON)
        self.faces.add_billboard(
            self.ground.point(lateral, z), height / 2, height, self.texture('person'), paint, self.rng.random() < 0.5
        )
        self.faces.add_shadow(self.disc(lateral, z, 0.22, 4), height)
        self.faces.contacts.append(self.disc(lateral, z, 0.28, 6))

    def cycle(self, kind: str, lateral: float, z: float, across: float) -> None:
        """``kind``: bicycle, motorcycle, cyclist or biker; ``across`` 0..1: how much of its side shows."""
        machine = labels.BICYCLE if kind in ('bicycle', 'cyclist') else labels.MOTORCYCLE
        view = 'side' if across > 0.35 else 'along'
        width, height = SIZES[f'{kind} {view}']
        width *= max(across, 0.45) if view == 'side' else 1.0
        if not self.claim(lateral, z, width, 0.4 if kind == 'bicycle' else 1.6):
            return
        colours = [*self._clothes(), self.shade(self.pick(CAR_COLOURS))]
        colours += [self.shade((34, 34, 36)), self.shade((150, 152, 156)), (225, 210, 180)]
        if machine == labels.MOTORCYCLE or self.rng.random() < 0.5:
            colours[1] = self.shade(self.pick(CAR_COLOURS))
        paint = self.faces.add_paint(colours, (labels.RIDER,) * 4 + (machine,) * 4)
        self.faces.add_billboard(
            self.ground.point(lateral, z), width, height, self.texture(f'{kind} {view}'), paint, self.rng.random() < 0.5
        )
        self.faces.add_shadow(self.disc(lateral, z, 0.4 * width, 6), height * 0.8)
        self.faces.contacts.append(self.disc(lateral, z, 0.42 * width, 6))

    def post(self, lateral: float, z: float, height: float, thickness: float, colour: Colour, bottom: float = 0.0) -> int:
        """An upright pole; returns its paint."""
        paint = self.faces.add_paint([colour], labels.POLE)
        x, y, _ = self.ground.point(lateral, z)
        plain = self.assets.atlas.variants['pole'][0]
        self.faces.add_billboard((x, y + bottom, z), thickness, height - bottom, plain, paint)
        self.faces.add_shadow(self.disc(lateral, z, thickness / 2, 4), height, bottom)
        return paint

    def arm(self, lateral: float, z: float, height: float, reach: float, paint: int) -> None:
        """A horizontal bar from a pole, ``reach`` metres to the right (negative: left)."""
        x, y, _ = self.ground.point(lateral, z)
        self.faces.add((x, y + height, z), (reach, 0.0, 0.0), (0.0, 0.14, 0.0), self.assets.atlas.variants['plain'][0], paint)

    def lamp_post(self, lateral: float, z: float, side: int) -> None:
        height = self.rng.uniform(5.5, 9.0)
        paint = self.post(lateral, z, height, self.rng.uniform(0.1, 0.18), self.mix((60, 64, 66), (165, 166, 164)))
        if self.rng.random() < 0.75:
            self.arm(lateral, z, height - 0.12, -side * self.rng.uniform(1.0, 2.5), paint)

    def sign(self, lateral: float, z: float, grey: Colour) -> None:
        kind = self.draw_kind({'sign red': 0.45, 'sign full': 0.4, 'sign board': 0.15})
        if kind == 'sign board':
            width, height, lower = self.rng.uniform(1.4, 2.6), self.rng.uniform(0.9, 1.4), self.rng.uniform(2.0, 2.6)
            colours = [self.pick(((30, 70, 160), (30, 110, 70), (235, 200, 40), (236, 236, 232)))]
            colours += [(240, 240, 240), (245, 245, 245) if sum(colours[0]) < 420 else (20, 20, 22)]
        else:
            width = height = self.rng.uniform(0.6, 0.9)
            lower = self.rng.uniform(2.0, 2.5)
            full = self.pick(((196, 24, 30), (24, 72, 170), (24, 80, 176), (240, 196, 30)))
            colours = (
                [(236, 236, 232), (200, 26, 32), (20, 20, 22)] if kind == 'sign red' else [full, (240, 240, 240), (242, 242, 240)]
            )
        paint = self.faces.add_paint([self.shade(c, 0.1) for c in colours], labels.TRAFFIC_SIGN)
        for offset in (-0.35 * width, 0.35 * width) if kind == 'sign board' else (0.0,):
            self.post(lateral + offset, z + 0.04, lower + height * 0.9, 0.07, grey)
        x, y, _ = self.ground.point(lateral, z)
        self.faces.add_billboard((x, y + lower, z), width, height, self.texture(kind), paint)

    def traffic_light(self, lateral: float, z: float, side: int, grey: Colour, overhead: bool) -> None:
        lit = int(self.rng.integers(3))
        lamps = [(60, 20, 18), (64, 54, 18), (16, 56, 34)]
        lamps[lit] = ((255, 50, 40), (255, 190, 50), (60, 240, 150))[lit]
        paint = self.faces.add_paint([self.shade((34, 36, 36)), *lamps], labels.TRAFFIC_LIGHT)
        size = self.rng.uniform(1.0, 1.3)
        x, y, _ = self.ground.point(lateral, z)
        texture = self.texture('traffic light')
        self.faces.add_billboard((x, y + 2.2, z - 0.12), 0.5 * size, size, texture, paint)
        if overhead:
            pole = self.post(lateral, z, 6.0, 0.2, grey)
            reach = self.rng.uniform(2.5, 4.5)
            self.arm(lateral, z, 5.6, -side * reach, pole)
            self.faces.add_billboard((x - side * reach * 0.92, y + 4.9, z - 0.12), 0.5 * size, size, texture, paint)
        else:
            self.post(lateral, z, 2.2 + size, 0.16, grey)

    def vehicle(self, kind: str, lateral: float, z: float, reverse: bool = False, turn: float = 0.0) -> float:
        """Put a car, truck, bus or tram with its middle at (lateral, z), if there is room; returns its length."""
        vehicle = self.pick(self.assets.vehicles[kind])
        across = abs(math.sin(turn)) > 0.5
        footprint = (vehicle.length + 0.8, vehicle.width + 0.3) if across else (vehicle.width + 0.3, vehicle.length + 0.8)
        if not self.claim(lateral, z, *footprint):
            return vehicle.length
        if kind == 'car':
            body = second = self.shade(self.pick(CAR_COLOURS))
        else:
            body, second = self.shade(self.pick(LIVERIES[kind])), self.shade(self.pick(LIVERIES[kind]))
        others = (26, 27, 29), (170, 172, 176), (236, 236, 224), (196, 24, 26), (232, 232, 226)
        colours = [body, self.shade((52, 62, 72), 0.3), *others, second]
        paint = self.faces.add_paint(colours, _VEHICLE_CLASSES[kind])
        scale = self.rng.uniform(0.94, 1.06, 3)
        axes = street_axes(self.ground, z, reverse, turn) * scale[:, None]
        place = np.array(self.ground.point(lateral, z))
        self.faces.add_object(vehicle.template, place, axes, paint)
        half_right, half_forward = axes[0, [0, 2]] * vehicle.width / 2, axes[2, [0, 2]] * vehicle.length / 2
        corners = [
            tuple((place[[0, 2]] + a * half_right + b * half_forward).tolist()) for a, b in ((-1, -1), (1, -1), (1, 1), (-1, 1))
        ]
        self.faces.add_shadow(corners, vehicle.height * scale[1] * 0.9)
        self.faces.contacts.append(corners)
        return vehicle.length * scale[2]
