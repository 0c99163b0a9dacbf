"""Collects the surfaces of a scene: textured parallelograms, their paints and their shadows.

A *paint* gives each of the 8 materials of a texture its colour (RGB, 0..255) and class. A *frame* is an object's place:
origin and the world directions of its local axes (right, up, forward).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from mtl_plugins.synthetic.streets.atlas import MATERIALS
from mtl_plugins.synthetic.streets.camera import Ground

Colour = tuple[float, float, float]
Point = tuple[float, float, float]


@dataclass(frozen=True)
class Template:
    """Faces of a rigid object in its own axes (right, up, forward; metres; origin on the ground).

    Attributes:
        geometry: ``(F, 3, 3)``, rows ``origin, edge_u, edge_v``; from outside, ``edge_u`` runs right and ``edge_v`` up.
        textures: ``F`` texture numbers.
        holes: ``F`` bools, True where the texture's opacity cuts the shape; the others are seen from outside only.
    """

    geometry: np.ndarray
    textures: tuple[int, ...]
    holes: tuple[bool, ...]


@dataclass
class FaceList:
    """Growing lists of a scene's faces; lists of plain numbers, turned into arrays once by the renderer."""

    geometry: list = field(default_factory=list)
    texture: list[int] = field(default_factory=list)
    repeat: list[tuple[float, float]] = field(default_factory=list)
    paint: list[int] = field(default_factory=list)
    holes: list[bool] = field(default_factory=list)
    one_sided: list[bool] = field(default_factory=list)
    facing_viewer: list[bool] = field(default_factory=list)
    colours: list[Colour] = field(default_factory=list)
    classes: list[int] = field(default_factory=list)
    shadows: list[tuple[Sequence[tuple[float, float]], float, float]] = field(default_factory=list)
    contacts: list[Sequence[tuple[float, float]]] = field(default_factory=list)

    def add_paint(self, colours: Sequence[Colour], classes: int | Sequence[int]) -> int:
        """Colours of materials 0, 1, ... (the last one fills up to 8) and their class or classes; returns its number."""
        if isinstance(classes, int):
            classes = (classes,)
        self.colours.extend(colours)
        self.colours.extend([colours[-1]] * (MATERIALS - len(colours)))
        self.classes.extend(classes)
        self.classes.extend([classes[-1]] * (MATERIALS - len(classes)))
        return len(self.classes) // MATERIALS - 1

    def add(
        self,
        origin: Point,
        edge_u: Point,
        edge_v: Point,
        texture: int,
        paint: int,
        repeat: tuple[float, float] = (1.0, 1.0),
        holes: bool = False,
        facing_viewer: bool = False,
    ) -> None:
        """One parallelogram that is seen from both sides."""
        self.geometry.append((origin, edge_u, edge_v))
        self.texture.append(texture)
        self.repeat.append(repeat)
        self.paint.append(paint)
        self.holes.append(holes)
        self.one_sided.append(False)
        self.facing_viewer.append(facing_viewer)

    def add_object(self, template: Template, place: np.ndarray, axes: np.ndarray, paint: int) -> None:
        """A rigid object at world point ``place (3,)``; ``axes (3, 3)`` rows are its right, up, forward (scaled) in the world."""
        geometry = template.geometry @ axes
        geometry[:, 0] += place
        self.geometry.extend(geometry)
        self.texture.extend(template.textures)
        self.holes.extend(template.holes)
        count = len(template.textures)
        self.repeat.extend([(1.0, 1.0)] * count)
        self.paint.extend([paint] * count)
        self.one_sided.extend([not hole for hole in template.holes])
        self.facing_viewer.extend([False] * count)

    def add_billboard(self, base: Point, width: float, height: float, texture: int, paint: int, mirrored: bool = False) -> None:
        """An upright cut-out at ``base`` (middle of its lower edge) that turns to the camera at X = Z = 0."""
        x, y, z = base
        distance = (x * x + z * z) ** 0.5
        right_x, right_z = z / distance * width, -x / distance * width
        if mirrored:
            right_x, right_z = -right_x, -right_z
        origin = (x - right_x / 2, y, z - right_z / 2)
        self.add(origin, (right_x, 0.0, right_z), (0.0, height, 0.0), texture, paint, holes=True, facing_viewer=True)

    def add_shadow(self, outline: Sequence[tuple[float, float]], top: float, bottom: float = 0.0) -> None:
        """Shadow of a prism between heights ``bottom`` and ``top`` above the ground; ``outline`` in world (X, Z)."""
        self.shadows.append((outline, bottom, top))


def street_axes(ground: Ground, z: float, reverse: bool = False, turn: float = 0.0) -> np.ndarray:
    """``(3, 3)`` rows right, up, forward of something that stands on the street at ``z``, turned right by ``turn`` radians."""
    angle = math.atan(ground.heading(z)) + turn + (math.pi if reverse else 0.0)
    sin, cos = math.sin(angle), math.cos(angle)
    rise = ground.slope(z) * cos
    length = math.hypot(1.0, rise)
    forward = sin / length, rise / length, cos / length
    right = cos, 0.0, -sin
    up = -sin * forward[1], sin * forward[0] + cos * forward[2], -cos * forward[1]
    return np.array([right, up, forward])
