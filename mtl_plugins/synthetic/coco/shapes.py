"""Simple parts that objects of a generated COCO are composed of.

An object stands on the origin, faces right and is one unit tall or long: x to the right, y down, so that it lies at y < 0.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np

_CIRCLE = np.stack([f(np.arange(20) * np.pi / 10) for f in (np.cos, np.sin)], 1)


class Coat(NamedTuple):
    """A pattern on a part: ``'stripes'``, ``'checks'`` or ``'spots'`` of another colour, ``period`` in units of the object."""

    kind: str
    colour: np.ndarray
    period: float
    angle: float


class Part(NamedTuple):
    """A filled shape: the union of the polygons ``contours``, each ``(N, 2)``.

    ``colour`` is None for what belongs to the outline of the object but shows what is behind; ``holes`` are polygons that stay
    open in the picture, though not in the outline; ``coat`` is a pattern, or None.
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


def patch(colour: np.ndarray | None, *points: tuple[float, float], rounds: int = 0, coat: Coat | None = None) -> Part:
    """A part of one polygon."""
    return Part([polygon(*points, rounds=rounds)], colour, coat=coat)


def stick(colour: np.ndarray, points: Sequence, widths: Sequence[float] | float, coat: Coat | None = None) -> Part:
    """A part of one limb."""
    return Part(limb(points, widths), colour, coat=coat)


def swing_chain(joint: tuple[float, float], angles: Sequence[float], lengths: Sequence[float]) -> list[tuple[float, float]]:
    """A chain of joints that hangs from the first; angle 0 points down, positive ones forward."""
    points = [joint]
    for angle, length in zip(angles, lengths, strict=True):
        x, y = points[-1]
        points.append((x + length * np.sin(angle), y + length * np.cos(angle)))
    return points


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
