"""Pictures of features: a t-SNE scatter, a strip of them over the epochs, and images beside their nearest neighbours."""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from PIL import Image, ImageDraw

from mtl_plugins.errors import ArgumentError
from mtl_plugins.visualization.fonts import pil_font
from mtl_plugins.visualization.plots import distinct_colours, to_array

UNKNOWN_COLOUR = '#a0a4a8'
MAX_PANELS = 10
PANELS_PER_ROW = 5
SAME, OTHER, UNKNOWN = (0, 158, 115), (213, 60, 40), (160, 164, 168)
FRAME, GAP = 4, 6


@dataclass(frozen=True)
class Scatter:
    """One panel: places ``(N, 2)``, labels ``(N,)``, -1 = unknown, and what stands above."""

    embedding: np.ndarray
    labels: np.ndarray
    title: str


@dataclass(frozen=True)
class NeighbourRow:
    """A query and its neighbours, best first.

    Attributes:
        image: ``(H, W, 3)`` uint8 RGB.
        label: Its class, -1 = unknown.
        neighbours: Their images.
        neighbour_labels: Their classes.
        similarities: Their cosines.
    """

    image: np.ndarray
    label: int
    neighbours: Sequence[np.ndarray]
    neighbour_labels: Sequence[int]
    similarities: Sequence[float]


def render_embedding(scatter: Scatter, classes: Sequence[str]) -> np.ndarray:
    """Draw one t-SNE with a legend that counts the images of each class; uint8 RGB ``(height, width, 3)``."""
    figure = Figure(figsize=(8.4, 6.6), dpi=110, layout='constrained')
    figure.get_layout_engine().set(w_pad=0.08, h_pad=0.08)
    _draw_scatter(figure.subplots(), scatter, len(classes), size=22)
    _draw_legend(figure, [scatter], classes, loc='outside right upper')
    return to_array(figure)


def render_strip(scatters: Sequence[Scatter], classes: Sequence[str]) -> np.ndarray:
    """Draw t-SNEs of the same images beside each other, in reading order, with one legend.

    Of more than ten, ten are drawn: the first, the last, and evenly in between. Each panel is scaled to its own extent.

    Raises:
        ArgumentError: If there is none.
    """
    if not scatters:
        raise ArgumentError('`scatters` should hold at least one embedding. Found none.')
    if len(scatters) > MAX_PANELS:
        scatters = [scatters[i] for i in np.linspace(0, len(scatters) - 1, MAX_PANELS).round().astype(int)]
    columns = min(len(scatters), PANELS_PER_ROW)
    rows = -(-len(scatters) // columns)
    figure = Figure(figsize=(max(3.1 * columns, 4), 3.3 * rows + 0.5), dpi=110, layout='constrained')
    figure.get_layout_engine().set(w_pad=0.08, h_pad=0.08)
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for axis in axes[len(scatters) :]:
        axis.set_axis_off()
    for axis, scatter in zip(axes, scatters, strict=False):
        _draw_scatter(axis, scatter, len(classes), size=9)
    _draw_legend(figure, scatters[-1:], classes, loc='outside lower center', max_columns=2 * columns)
    return to_array(figure)


def _draw_scatter(axis, scatter: Scatter, num_classes: int, size: float) -> None:
    palette = [*distinct_colours(num_classes), UNKNOWN_COLOUR]
    # In the order of the images, not class by class: no class lies above another.
    colours = [palette[label] for label in scatter.labels]
    axis.scatter(*scatter.embedding.T, s=size, c=colours, alpha=0.8, linewidths=0)
    centre = (scatter.embedding.max(0) + scatter.embedding.min(0)) / 2
    radius = max(1.06 * np.ptp(scatter.embedding, axis=0).max() / 2, 1e-3)
    axis.set_xlim(centre[0] - radius, centre[0] + radius)
    axis.set_ylim(centre[1] - radius, centre[1] + radius)
    axis.set_box_aspect(1)
    axis.set_xticks([])
    axis.set_yticks([])
    for spine in axis.spines.values():
        spine.set_color('#c8ccd0')
    axis.set_title(scatter.title, fontsize=11)


def _draw_legend(figure: Figure, scatters: Sequence[Scatter], classes: Sequence[str], loc: str, max_columns: int = 1) -> None:
    labels = scatters[0].labels
    entries = [*zip(classes, distinct_colours(len(classes)), range(len(classes)), strict=True), ('unknown', UNKNOWN_COLOUR, -1)]
    handles = [
        Line2D([], [], marker='o', linestyle='', markersize=8, color=colour, label=f'{name} ({(labels == label).sum()})')
        for name, colour, label in entries
        if label >= 0 or (labels == label).any()
    ]
    rows = -(-len(handles) // max_columns)
    figure.legend(handles=handles, frameon=False, fontsize=11, handletextpad=0.1, loc=loc, ncols=-(-len(handles) // rows))


def render_neighbours(rows: Sequence[NeighbourRow], classes: Sequence[str], title: str, tile: int = 96) -> np.ndarray:
    """Draw each query beside its neighbours, with a frame that is green where the classes agree and red where not.

    Args:
        rows: With the same number of neighbours.
        classes: Names in the order of the labels.
        title: Above everything.
        tile: Side of an image in pixels.

    Returns:
        uint8 RGB ``(height, width, 3)``.

    Raises:
        ArgumentError: If there is no row.
    """
    if not rows:
        raise ArgumentError('`rows` should hold at least one query. Found none.')
    num_neighbours = len(rows[0].neighbours)
    pitch_x, pitch_y = tile + 2 * FRAME + GAP, tile + 2 * FRAME + 20
    left, top, bottom = 2 * GAP, 58, 30
    width = left + (num_neighbours + 1) * pitch_x + 3 * GAP
    canvas = Image.new('RGB', (max(width, 560), top + len(rows) * pitch_y + bottom), 'white')
    draw = ImageDraw.Draw(canvas)
    big, small = pil_font(title, 16), pil_font(''.join(classes), 12)
    draw.text((left, 18), title, fill='black', font=big, anchor='lm')

    def place(image: np.ndarray, frame: tuple[int, int, int], text: str, x: int, y: int) -> None:
        draw.rectangle((x, y, x + tile + 2 * FRAME - 1, y + tile + 2 * FRAME - 1), fill=frame)
        canvas.paste(Image.fromarray(_fit(image, tile)), (x + FRAME, y + FRAME))
        draw.text((x + FRAME + tile / 2, y + tile + 2 * FRAME + 8), text, fill='black', font=small, anchor='mm')

    places = [left, *(left + (i + 1) * pitch_x + 2 * GAP for i in range(num_neighbours))]
    for x, name in zip(places, ['query', *map(str, range(1, num_neighbours + 1))], strict=True):
        draw.text((x + FRAME + tile / 2, top - 11), name, fill='black', font=small, anchor='mm')
    names = [*classes, 'unknown']
    for number, row in enumerate(rows):
        y = top + number * pitch_y
        place(row.image, (60, 60, 60), names[row.label], places[0], y)
        found = zip(row.neighbours, row.neighbour_labels, row.similarities, places[1:], strict=True)
        for image, label, similarity, x in found:
            frame = UNKNOWN if min(label, row.label) < 0 else SAME if label == row.label else OTHER
            place(image, frame, f'{names[label]} {similarity:.3f}', x, y)
    _draw_frames_legend(draw, left, canvas.height - bottom / 2, rows, small)
    return np.asarray(canvas)


def _fit(image: np.ndarray, tile: int) -> np.ndarray:
    method = cv2.INTER_AREA if image.shape[0] > tile else cv2.INTER_CUBIC
    return cv2.resize(image, (tile, tile), interpolation=method)


def _draw_frames_legend(draw: ImageDraw.ImageDraw, x: float, y: float, rows: Sequence[NeighbourRow], font) -> None:
    entries = [(SAME, 'same class as the query'), (OTHER, 'another class')]
    if any(row.label < 0 or min(row.neighbour_labels) < 0 for row in rows):
        entries.append((UNKNOWN, 'class unknown'))
    for colour, name in entries:
        draw.rectangle((x, y - 6, x + 12, y + 6), fill=colour)
        draw.text((x + 17, y), name, fill='black', font=font, anchor='lm')
        x += 17 + draw.textlength(name, font=font) + 18
    draw.text((x, y), 'numbers: cosine of the features', fill='black', font=font, anchor='lm')
