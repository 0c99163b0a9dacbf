"""Features on disk and in pictures: t-SNE of one state of the network, of many in a strip, and images beside their neighbours."""

import dataclasses
import math
import zipfile
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from PIL import Image, ImageDraw
from scipy.linalg import orthogonal_procrustes

from mtl_plugins.errors import ArgumentError, CorruptFileError
from mtl_plugins.lab.features.extraction import FeatureSet, choose_evenly
from mtl_plugins.lab.features.feature_scores import nearest_neighbours
from mtl_plugins.lab.plots.style import distinct_colours, new_figure
from mtl_plugins.utils.files import replacing
from mtl_plugins.visualization.plots import pil_font, to_array

# Of the files in a work dir.
FOLDER = 'features'
PERPLEXITY = 30.0
START_SPREAD = 1e-4
# scikit-learn's 12 shakes an earlier layout up: once classes are apart, their centres then move by 0.5 to 1 of the embedding's
# spread from one state of the network to the next, with 4 by 0.15 to 0.2, at the same divergence.
EXAGGERATION, EXAGGERATION_OF_LATER = 12.0, 4.0
UNKNOWN_COLOUR = '#a0a4a8'
MAX_PANELS = 10
PANELS_PER_ROW = 5
SAME, OTHER, UNKNOWN = (0, 158, 115), (213, 60, 40), (160, 164, 168)
TILE, FRAME, GAP = 96, 4, 6


@dataclasses.dataclass(frozen=True)
class FeatureRecord:
    """Features of the same images at some time of the training, as an ``.npz`` of plain arrays holds them.

    ``features``, ``labels`` and ``indices`` are those of :class:`FeatureSet`, ``classes`` names in the order of the labels,
    ``name`` that of the moment, such as ``'epoch 3'``, ``accuracy`` k-NN in per cent or NaN, ``embedding`` t-SNE ``(N, 2)`` or
    empty.
    """

    features: np.ndarray
    labels: np.ndarray
    indices: np.ndarray
    classes: Sequence[str]
    name: str
    iteration: int
    accuracy: float
    embedding: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros((0, 2), np.float32))

    @property
    def stem(self) -> str:
        """Of file names: ``'epoch_003'``."""
        return '_'.join(f'{int(word):03d}' if word.isdigit() else word for word in self.name.split())

    @property
    def title(self) -> str:
        return self.name if math.isnan(self.accuracy) else f'{self.name}: k-NN {self.accuracy:.1f} %'

    def save(self, folder: Path) -> None:
        """Write ``<stem>.npz``."""
        with replacing(folder / f'{self.stem}.npz') as temporary, open(temporary, 'wb') as file:
            np.savez(file, **dataclasses.asdict(self))

    def shows_same_images(self, other: 'FeatureRecord') -> bool:
        return np.array_equal(self.indices, other.indices) and np.array_equal(self.labels, other.labels)

    def embedded(self, earlier: Sequence['FeatureRecord'] = ()) -> 'FeatureRecord':
        """The record with its t-SNE, laid out like that of the newest of the earlier ones, if there is one."""
        return dataclasses.replace(self, embedding=embed(self.features, earlier[-1].embedding if earlier else None))


def read_records(folder: Path) -> list[FeatureRecord]:
    """All records of a folder, the oldest state of the network first; another file is a `CorruptFileError`."""
    records = []
    for path in folder.glob('*.npz'):
        try:
            with np.load(path) as file:
                arrays = {field.name: file[field.name] for field in dataclasses.fields(FeatureRecord)}
        except (OSError, ValueError, KeyError, zipfile.BadZipFile, EOFError) as error:
            raise CorruptFileError(
                f'{path} should hold features that FeatureHook wrote. It cannot be read ({error}): move it out of the folder.'
            ) from error
        plain = {name: arrays[name].item() for name in ('name', 'iteration', 'accuracy')}
        records.append(FeatureRecord(**{**arrays, **plain, 'classes': tuple(arrays['classes'].tolist())}))
    return sorted(records, key=lambda record: record.iteration)


def embed(features: np.ndarray, previous: np.ndarray | None = None) -> np.ndarray:
    """A t-SNE embedding ``(N, 2)`` float32 of features ``(N, C)``, four or more, by their cosines.

    scikit-learn's Barnes-Hut t-SNE of the features divided by their norms; their squared distance is ``2 - 2 cos``. It starts
    from the first two principal components, or from the ``previous`` embedding ``(N, 2)`` of the same images by an earlier
    state of the network, and is turned and mirrored such that it lies closest to that one: a class then stays roughly where it
    was, unless the features moved it. No global random state is used. Features that are all equal, as after a collapse, become
    one point.
    """
    if len(features) < 4:
        raise ArgumentError(f'`features` should hold at least four images. Found {len(features)}.')
    if previous is not None and previous.shape != (len(features), 2):
        raise ArgumentError(f'`previous` should have the shape {(len(features), 2)}. Found {previous.shape}.')
    from sklearn.manifold import TSNE
    from threadpoolctl import threadpool_limits

    norms = np.linalg.norm(features, axis=1, keepdims=True)
    directions = features / np.maximum(norms, np.finfo(np.float32).tiny)
    start = _principal_components(directions) if previous is None or np.ptp(previous) == 0 else previous - previous.mean(0)
    if np.ptp(start) < np.finfo(np.float32).eps:
        return np.zeros((len(features), 2), np.float32)
    tsne = TSNE(
        init=(START_SPREAD * start / start.std(0).max()).astype(np.float32),
        perplexity=min(PERPLEXITY, (len(features) - 1) / 3),
        early_exaggeration=EXAGGERATION if previous is None else EXAGGERATION_OF_LATER,
        random_state=0,
    )
    # Several threads gain nothing at this size, and on busy cores they wait for each other: 25 s instead of 2.
    with threadpool_limits(1):
        embedding = tsne.fit_transform(directions.astype(np.float32))
    embedding -= embedding.mean(0)
    rotation, _ = orthogonal_procrustes(embedding, start)
    return (embedding @ rotation).astype(np.float32)


def _principal_components(directions: np.ndarray) -> np.ndarray:
    """The first two, ``(N, 2)``; the largest coordinate of each is positive, since the sign of a component is arbitrary."""
    centred = directions - directions.mean(0)
    left, values, _ = np.linalg.svd(centred.astype(np.float64), full_matrices=False)
    components = np.zeros((len(directions), 2))
    count = min(2, len(values))
    components[:, :count] = left[:, :count] * values[:count]
    signs = np.sign(components[np.abs(components).argmax(0), [0, 1]])
    return components * np.where(signs == 0, 1, signs)


def draw_embedding(record: FeatureRecord) -> np.ndarray:
    """Draw the t-SNE with a legend that counts the images of each class; uint8 RGB ``(height, width, 3)``."""
    figure = new_figure(8.4, 6.6)
    figure.get_layout_engine().set(w_pad=0.08, h_pad=0.08)
    _draw_scatter(figure.subplots(), record, size=22)
    _draw_legend(figure, record, loc='outside right upper')
    return to_array(figure)


def draw_strip(records: Sequence[FeatureRecord]) -> np.ndarray:
    """Draw t-SNEs of the same images, the oldest first, beside each other in reading order with one legend.

    Of more than ten, ten are drawn: the first, the last, and evenly in between. Each panel is scaled to its own extent.
    """
    records = [records[position] for position in choose_evenly(len(records), MAX_PANELS)]
    columns = min(len(records), PANELS_PER_ROW)
    rows = -(-len(records) // columns)
    figure = new_figure(max(3.1 * columns, 4), 3.3 * rows + 0.5)
    figure.get_layout_engine().set(w_pad=0.08, h_pad=0.08)
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for axis in axes[len(records) :]:
        axis.set_axis_off()
    for axis, record in zip(axes, records, strict=False):
        _draw_scatter(axis, record, size=9)
    _draw_legend(figure, records[-1], loc='outside lower center', max_columns=2 * columns)
    return to_array(figure)


def _draw_scatter(axis, record: FeatureRecord, size: float) -> None:
    palette = [*distinct_colours(len(record.classes)), UNKNOWN_COLOUR]
    # In the order of the images, not class by class: no class lies above another.
    colours = [palette[label] for label in record.labels]
    axis.scatter(*record.embedding.T, s=size, c=colours, alpha=0.8, linewidths=0)
    centre = (record.embedding.max(0) + record.embedding.min(0)) / 2
    radius = max(1.06 * np.ptp(record.embedding, axis=0).max() / 2, 1e-3)
    axis.set_xlim(centre[0] - radius, centre[0] + radius)
    axis.set_ylim(centre[1] - radius, centre[1] + radius)
    axis.set_box_aspect(1)
    axis.set_xticks([])
    axis.set_yticks([])
    axis.spines[:].set_color('#c8ccd0')
    axis.set_title(record.title, fontsize=11)


def _draw_legend(figure: Figure, record: FeatureRecord, loc: str, max_columns: int = 1) -> None:
    names, colours = [*record.classes, 'unknown'], [*distinct_colours(len(record.classes)), UNKNOWN_COLOUR]
    counts = [int((record.labels == label).sum()) for label in (*range(len(record.classes)), -1)]
    handles = [
        Line2D([], [], marker='o', linestyle='', markersize=8, color=colour, label=f'{name} ({count})')
        for name, colour, count in zip(names, colours, counts, strict=True)
    ]
    handles = handles if counts[-1] else handles[:-1]
    rows = -(-len(handles) // max_columns)
    figure.legend(handles=handles, frameon=False, fontsize=11, handletextpad=0.1, loc=loc, ncols=-(-len(handles) // rows))


def choose_queries(labels: np.ndarray, count: int) -> np.ndarray:
    """Positions of ``count`` images, class by class; the classes take turns, so that each has about as many."""
    turns = np.zeros(len(labels), np.int64)
    for label in np.unique(labels):
        turns[labels == label] = np.arange((labels == label).sum())
    chosen = np.lexsort((labels, turns))[:count]
    return chosen[np.lexsort((chosen, labels[chosen]))]


def draw_neighbours(bank: FeatureSet, queries: FeatureSet, positions: np.ndarray, count: int, title: str) -> np.ndarray:
    """Draw the queries at ``positions`` beside the ``count`` nearest images of the bank, fewer if it is smaller.

    The frame is green where the classes agree and red where not; uint8 RGB ``(height, width, 3)``.
    """
    count = min(count, len(bank.features))
    similarities, neighbours = nearest_neighbours(queries.features[positions], bank.features, count)
    pitch_x, pitch_y = TILE + 2 * FRAME + GAP, TILE + 2 * FRAME + 20
    left, top, bottom = 2 * GAP, 58, 30
    width = left + (count + 1) * pitch_x + 3 * GAP
    canvas = Image.new('RGB', (max(width, 560), top + len(positions) * pitch_y + bottom), 'white')
    draw = ImageDraw.Draw(canvas)
    names = [*queries.classes, 'unknown']
    big, small = pil_font(title, 16), pil_font(''.join(queries.classes), 12)
    draw.text((left, 18), title, fill='black', font=big, anchor='lm')

    def place(image: np.ndarray, frame: tuple[int, int, int], text: str, x: int, y: int) -> None:
        draw.rectangle((x, y, x + TILE + 2 * FRAME - 1, y + TILE + 2 * FRAME - 1), fill=frame)
        method = cv2.INTER_AREA if image.shape[0] > TILE else cv2.INTER_CUBIC
        resized = cv2.resize(image, (TILE, TILE), interpolation=method)
        canvas.paste(Image.fromarray(resized), (x + FRAME, y + FRAME))
        draw.text((x + FRAME + TILE / 2, y + TILE + 2 * FRAME + 8), text, fill='black', font=small, anchor='mm')

    places = [left, *(left + (number + 1) * pitch_x + 2 * GAP for number in range(count))]
    for x, name in zip(places, ['query', *map(str, range(1, count + 1))], strict=True):
        draw.text((x + FRAME + TILE / 2, top - 11), name, fill='black', font=small, anchor='mm')
    y = top
    for position, row, cosines in zip(positions, neighbours, similarities, strict=True):
        label = queries.labels[position]
        place(queries.image(position), (60, 60, 60), names[label], left, y)
        for index, cosine, x in zip(row, cosines, places[1:], strict=True):
            other = bank.labels[index]
            frame = UNKNOWN if min(label, other) < 0 else SAME if label == other else OTHER
            place(bank.image(index), frame, f'{names[other]} {cosine:.3f}', x, y)
        y += pitch_y
    entries = [(SAME, 'same class as the query'), (OTHER, 'another class')]
    if min(queries.labels[positions].min(), bank.labels[neighbours].min()) < 0:
        entries.append((UNKNOWN, 'class unknown'))
    x, y = left, canvas.height - bottom / 2
    for colour, name in entries:
        draw.rectangle((x, y - 6, x + 12, y + 6), fill=colour)
        draw.text((x + 17, y), name, fill='black', font=small, anchor='lm')
        x += 17 + draw.textlength(name, font=small) + 18
    draw.text((x, y), 'numbers: cosine of the features', fill='black', font=small, anchor='lm')
    return np.asarray(canvas)
