"""Pictures of a generated COCO: a textured place, objects that stand in it and partly hide each other, and their masks."""

from collections.abc import Callable
from typing import NamedTuple

import cv2
import numpy as np

from mtl_plugins.synthetic.coco import creatures, things
from mtl_plugins.synthetic.coco.shapes import Coat, Part, dye, oval, polygon

SPLITS = ('train', 'val')
OVERSAMPLING = 3
_CROWDS = ('person', 'person', 'car', 'bicycle')
_MIN_AREA = 12  # Pixels; less than that is a crumb behind something else.


class Category(NamedTuple):
    """A category with COCO's id and name; height of the object as a share of the image's, from and to; how often it comes."""

    id: int
    name: str
    supercategory: str
    draw: Callable[[np.random.Generator], list[Part]]
    size: tuple[float, float]
    weight: float


# `size` is that of the unit of the shape: the height of a person, the length of a car.
CATEGORIES = (
    Category(1, 'person', 'person', creatures.person, (0.4, 0.95), 1.0),
    Category(2, 'bicycle', 'vehicle', things.bicycle, (0.4, 0.85), 1.0),
    Category(3, 'car', 'vehicle', things.car, (0.45, 1.0), 1.0),
    Category(10, 'traffic light', 'outdoor', things.traffic_light, (0.4, 0.9), 0.25),
    Category(17, 'cat', 'animal', creatures.cat, (0.3, 0.7), 1.0),
    Category(18, 'dog', 'animal', creatures.dog, (0.35, 0.75), 1.0),
    Category(37, 'sports ball', 'sports', things.ball, (0.1, 0.25), 0.25),
    Category(62, 'chair', 'furniture', things.chair, (0.3, 0.6), 0.25),
    Category(64, 'potted plant', 'furniture', things.potted_plant, (0.25, 0.6), 0.25),
)
_BY_NAME = {category.name: category for category in CATEGORIES}


class Visible(NamedTuple):
    """The visible part of an object, or of a crowd: a boolean mask, ``OVERSAMPLING`` times as fine as the image."""

    category: Category
    mask: np.ndarray
    is_crowd: bool


class Picture(NamedTuple):
    """``image`` is ``(H, W, 3)`` uint8 RGB."""

    image: np.ndarray
    objects: list[Visible]


def render_picture(seed: int, split: str, index: int, size: tuple[int, int]) -> Picture:
    """The picture that belongs to ``(seed, split, index)``, of the given height and width."""
    rng = np.random.default_rng([seed, SPLITS.index(split), index])
    height, width = (OVERSAMPLING * side for side in size)
    stage = _Stage(rng, height, width)
    if rng.random() < 0.35:
        stage.add_crowd(_BY_NAME[_CROWDS[rng.integers(len(_CROWDS))]])
    weights = np.array([category.weight for category in CATEGORIES])
    count = int(rng.integers(2, 6))
    chosen = [CATEGORIES[k] for k in rng.choice(len(CATEGORIES), count, p=weights / weights.sum())]
    sizes = [rng.uniform(*category.size) * min(height, width) for category in chosen]
    for category, extent in sorted(zip(chosen, sizes, strict=True), key=lambda pair: pair[1]):
        stage.add_object(category, extent)
    return stage.picture(size)


def _noise(rng: np.random.Generator, height: int, width: int, cell: float) -> np.ndarray:
    """Smooth noise of unit range with spots of about ``cell`` pixels."""
    grid = rng.random((max(int(height / cell), 1) + 2, max(int(width / cell), 1) + 2), np.float32)
    return cv2.resize(grid, (width, height), interpolation=cv2.INTER_CUBIC) - 0.5


class _Stage:
    """A canvas and, for every pixel of it, the number of the object that is seen there."""

    def __init__(self, rng: np.random.Generator, height: int, width: int):
        self.rng, self.height, self.width = rng, height, width
        self.light = rng.uniform(-1, 1), rng.uniform(0.1, 0.3)
        self.horizon = int(height * rng.uniform(0.25, 0.6))
        self.canvas = np.empty((height, width, 3), np.float32)
        self.canvas[: self.horizon] = self._surface(self.horizon, width)
        self.canvas[self.horizon :] = self._surface(height - self.horizon, width)
        self._clutter()
        self.owner = np.zeros((height, width), np.uint8)
        self.owners: list[tuple[Category, bool]] = []
        self.boxes: list[np.ndarray] = []

    def _surface(self, height: int, width: int) -> np.ndarray:
        """Wall, sky, meadow or floor: a colour, noise of two sizes, and perhaps planks, tiles or stripes."""
        rng = self.rng
        colour, texture = dye(rng, 0.7), np.zeros((height, width), np.float32)
        for cell, strength in ((rng.uniform(30, 90), rng.uniform(10, 45)), (rng.uniform(2, 9), rng.uniform(5, 35))):
            texture += strength * _noise(rng, height, width, cell)
        kind, period = rng.integers(4), rng.uniform(12, 50)
        if kind < 3:
            columns, rows = np.arange(width) % period < rng.uniform(2, 6), np.arange(height) % period < rng.uniform(2, 6)
            lines = (columns[None] & (kind != 1)) | (rows[:, None] & (kind != 0))
            texture -= rng.uniform(-25, 35) * lines
        fade = np.linspace(-1, 1, height, dtype=np.float32)[:, None] * rng.uniform(-25, 25)
        return colour.astype(np.float32) + (texture + fade)[..., None]

    def _clutter(self) -> None:
        """Flat shapes that are nobody's object: posters, windows, stones, puddles."""
        rng = self.rng
        for _ in range(rng.integers(0, 6)):
            x, y = rng.uniform(0, self.width), rng.uniform(0, self.height)
            a, b = rng.uniform(0.03, 0.16, 2) * self.width
            corners = [(x - a, y - b), (x + a, y - b), (x + a, y + b), (x - a, y + b)]
            contour = polygon(*corners) if rng.random() < 0.5 else oval(x, y, a, b, rng.uniform(0, 3))
            self._paint(Part([contour], dye(rng, 0.8)), self.width * 0.2)

    def add_object(self, category: Category, extent: float) -> None:
        """Place an object where it hides little of the ones before it."""
        rng = self.rng
        parts = category.draw(rng)
        angle, flip = rng.normal(0, 0.06), 1 if rng.random() < 0.5 else -1
        stretch = rng.uniform(0.85, 1.15)
        cosine, sine = extent * np.cos(angle), extent * np.sin(angle)
        matrix = np.array([[cosine, -sine], [sine, cosine]]) @ np.diag([flip * stretch, 1.0])
        nearness = np.clip(extent / min(self.height, self.width), 0, 1)
        outline = np.concatenate([contour for part in parts for contour in part.contours]) @ matrix.T
        low, high = outline.min(0), outline.max(0)
        best, least = None, np.inf
        for _ in range(16):
            foot = self.horizon + (self.height - self.horizon) * np.clip(0.15 + 0.8 * nearness + rng.normal(0, 0.15), 0.02, 0.98)
            foot = max(foot, min(-low[1] + 2, self.height * 0.98))
            position = np.array([rng.uniform(-low[0] * 0.8, self.width - high[0] * 0.8), foot])
            overlap = self._overlap(np.array([*(low + position), *(high + position)]))
            if overlap < least:
                best, least = position, overlap
        self.boxes.append(np.array([*(low + best), *(high + best)]))
        self._shadow(best, (high[0] - low[0]) / 2, extent)
        self._draw(parts, matrix, best, extent, self._number(category, False), 1.0)

    def add_crowd(self, category: Category) -> None:
        """A row of many small ones far away, which nobody would outline one by one."""
        rng = self.rng
        extent = self.height * (rng.uniform(0.16, 0.26) if category.name == 'person' else rng.uniform(0.14, 0.22))
        number = self._number(category, True)
        x, end = rng.uniform(0, self.width * 0.5), rng.uniform(0.6, 1.0) * self.width
        foot = self.horizon + self.height * rng.uniform(0.02, 0.1)
        while x < end:
            flip = 1 if rng.random() < 0.5 else -1
            matrix = np.diag([flip * extent, extent * rng.uniform(0.9, 1.1)])
            self._draw(category.draw(rng), matrix, np.array([x, foot + rng.normal(0, extent * 0.05)]), extent, number, 0.85)
            x += extent * rng.uniform(0.2, 0.42) * (1 if category.name == 'person' else 2.2)

    def _number(self, category: Category, is_crowd: bool) -> int:
        self.owners.append((category, is_crowd))
        return len(self.owners)

    def _overlap(self, box: np.ndarray) -> float:
        """The largest share of an earlier box that ``box`` (x0, y0, x1, y1) covers."""
        shares = [0.0]
        for other in self.boxes:
            sides = np.minimum(box[2:], other[2:]) - np.maximum(box[:2], other[:2])
            shares.append(max(sides[0], 0) * max(sides[1], 0) / np.prod(other[2:] - other[:2]))
        return max(shares)

    def _shadow(self, foot: np.ndarray, half_width: float, extent: float) -> None:
        x, y = int(foot[0] + self.light[0] * extent * 0.08), int(foot[1])
        a, b = max(int(half_width), 1), max(int(extent * 0.05), 1)
        x0, y0 = max(x - a, 0), max(y - b, 0)
        area = self.canvas[y0 : y + b + 1, x0 : max(x + a + 1, 0)]
        mask = np.zeros(area.shape[:2], np.uint8)
        cv2.ellipse(mask, (x - x0, y - y0), (a, b), 0, 0, 360, 1, -1)
        area[mask > 0] *= 0.62

    def _draw(
        self, parts: list[Part], matrix: np.ndarray, position: np.ndarray, extent: float, number: int, contrast: float
    ) -> None:
        for part in parts:
            placed = part._replace(
                contours=[contour @ matrix.T + position for contour in part.contours],
                holes=[hole @ matrix.T + position for hole in part.holes],
            )
            self._paint(placed, extent, number, contrast)

    def _paint(self, part: Part, extent: float, number: int | None = None, contrast: float = 1.0) -> None:
        """Fill a part given in pixels: shaded at its edges and towards the light, patterned, and noted as its object's."""
        points = np.concatenate(part.contours)
        x0, y0 = np.maximum(np.floor(points.min(0)).astype(int) - 1, 0)
        x1, y1 = np.minimum(np.ceil(points.max(0)).astype(int) + 2, (self.width, self.height))
        if x0 >= x1 or y0 >= y1:
            return
        mask = np.zeros((y1 - y0, x1 - x0), np.uint8)
        for contour in part.contours:
            cv2.fillPoly(mask, [np.rint((contour - (x0, y0)) * 16).astype(np.int32)], 1, shift=4)
        if number is not None:
            self.owner[y0:y1, x0:x1][mask > 0] = number
        if part.colour is None:
            return
        for hole in part.holes:
            cv2.fillPoly(mask, [np.rint((hole - (x0, y0)) * 16).astype(np.int32)], 0, shift=4)
        reach = max(int(extent * 0.05), 3)
        relief = cv2.blur(mask.astype(np.float32), (reach, reach), borderType=cv2.BORDER_CONSTANT)
        height, width = mask.shape
        across = (np.arange(width, dtype=np.float32) - width / 2) * (self.light[0] * self.light[1] / width)
        down = (height / 2 - np.arange(height, dtype=np.float32)) * (self.light[1] / height)
        shade = contrast * (0.72 + 0.3 * relief + (down[:, None] + across))
        colours = part.colour.astype(np.float32) * shade[..., None]
        if part.coat is not None:
            blend = self._coat(part.coat, mask.shape, extent)[..., None] * shade[..., None]
            colours += blend * (part.coat.colour - part.colour).astype(np.float32)
        inside = mask > 0
        self.canvas[y0:y1, x0:x1][inside] = colours[inside]

    def _coat(self, coat: Coat, shape: tuple[int, int], extent: float) -> np.ndarray:
        """Share of the pattern's colour, 0 or 1 per pixel."""
        period = max(coat.period * extent, 4)
        if coat.kind == 'spots':
            return (_noise(self.rng, *shape, period / 2) > 0.12).astype(np.float32)
        y, x = np.ogrid[: shape[0], : shape[1]]
        along = (x * np.cos(coat.angle) + y * np.sin(coat.angle)) / period % 1 < 0.45
        if coat.kind == 'checks':
            along = along ^ ((y * np.cos(coat.angle) - x * np.sin(coat.angle)) / period % 1 < 0.5)
        return along.astype(np.float32)

    def picture(self, size: tuple[int, int]) -> Picture:
        rng = self.rng
        image = cv2.resize(self.canvas, size[::-1], interpolation=cv2.INTER_AREA)
        if rng.random() < 0.2:
            image = cv2.GaussianBlur(image, (0, 0), rng.uniform(0.3, 0.8))
        image *= (rng.uniform(0.75, 1.15) * rng.uniform(0.92, 1.08, 3)).astype(np.float32)
        image += rng.normal(0, rng.uniform(1, 6), size).astype(np.float32)[..., None]
        objects = []
        for number, (category, is_crowd) in enumerate(self.owners, 1):
            mask = self.owner == number
            if is_crowd:
                coarse = cv2.morphologyEx(mask.astype(np.uint8), cv2.MORPH_CLOSE, np.ones((13, 13), np.uint8)) > 0
                mask = coarse & (self.owner <= number)
            if mask.sum() >= _MIN_AREA * OVERSAMPLING**2:
                objects.append(Visible(category, mask, is_crowd))
        return Picture(np.clip(image, 0, 255).astype(np.uint8), objects)
