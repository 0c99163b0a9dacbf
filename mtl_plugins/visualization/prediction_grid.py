"""Pictures of predictions: image | label | prediction | errors | ..., predictions alone, attention and similarity of classes."""

from collections.abc import Mapping, Sequence
from itertools import chain

import cv2
import numpy as np

from mtl_plugins.labels.label_kind import LabelKind
from mtl_plugins.labels.pictures import INVALID, colour_values
from mtl_plugins.visualization.tiles import render_tiles

# How much of a class's colour covers the image.
OPACITY = 0.6
NARROWEST, WIDEST = 480, 1280
TILE_WIDTH = 480
# Share of the attention's colours in the picture, where there is none and where there is most; the rest is the image in grey.
SHARES = (0.3, 0.75)
NOTE = 'attention: dark .. yellow, from 0 to the most attended place of the image'


def render_prediction_grid(rows: Sequence[Mapping], labels: Mapping[str, LabelKind], tile_width: int = 320) -> np.ndarray:
    """Draw one row per sample with a header and a legend: uint8 RGB ``(height, width, 3)``.

    Args:
        rows: Each with ``image`` ``(H, W, 3)`` uint8 RGB, ``labels`` and ``predictions``: values by name, each may lack some;
            and, if it has a name, ``caption``.
        labels: The kinds by name, in the order of the columns.
    """
    tiles = [label_tiles(row, labels) for row in rows]
    wrong = {name: f'errors of {name}' for name, kind in labels.items() if kind.error_note}
    for tile, row in zip(tiles, rows, strict=True):
        for name in wrong.keys() & row['labels'].keys() & row['predictions'].keys():
            tile[wrong[name]] = np.full((*row['labels'][name].shape[:2], 3), INVALID, np.uint8)
            labels[name].draw_error(tile[wrong[name]], row['labels'][name], row['predictions'][name])
    heads = [(*titles_of(name, kind, labels), wrong.get(name, '')) for name, kind in labels.items()]
    columns = [head for head in ('image', *chain.from_iterable(heads)) if any(head in tile for tile in tiles)]
    shown = [labels[name] for name in labels if any(name in row['labels'] or name in row['predictions'] for row in rows)]
    judged = [labels[name] for name, head in wrong.items() if head in columns]
    keys = dict.fromkeys(kind.error_note for kind in judged if kind.error_bar() is None)
    notes = [kind.note() for kind in shown] + ([f'errors: {"; ".join([*keys, "grey unknown"])}'] if judged else [])
    bars = [kind.colour_bar() for kind in shown] + [kind.error_bar() for kind in judged]
    return render_tiles(
        tiles,
        columns,
        tile_width=tile_width,
        legend=[entry for kind in shown for entry in kind.legend()],
        notes=[note for note in notes if note],
        bars=[bar for bar in bars if bar],
        captions=[row.get('caption', '') for row in rows] if any('caption' in row for row in rows) else (),
    )


def titles_of(name: str, kind: LabelKind, labels: Mapping[str, LabelKind]) -> tuple[str, str]:
    """Return the two headings of a label, with its name where another one of the data has the same."""
    ambiguous = sum(other.titles == kind.titles for other in labels.values()) > 1
    return tuple(f'{title} ({name})' for title in kind.titles) if ambiguous else kind.titles


def label_tiles(row: Mapping, labels: Mapping[str, LabelKind]) -> dict[str, np.ndarray]:
    """Return ``image`` and the colours of each label and prediction of a row, ``(H, W, 3)`` uint8, by heading."""
    tiles = {'image': row['image']}
    for name, kind in labels.items():
        for title, values in zip(titles_of(name, kind, labels), (row['labels'], row['predictions']), strict=True):
            if name in values:
                tiles[title] = kind.colour(values[name])
    return tiles


def colour_over(image: np.ndarray, values: np.ndarray, kind: LabelKind) -> np.ndarray:
    """Return colours ``(H, W, 3)`` of predicted values; those of classes let the image through."""
    colours = kind.colour(values)
    if not kind.is_class_map:
        return colours
    return (image * np.float32(1 - OPACITY) + colours * np.float32(OPACITY)).round().astype(np.uint8)


def render_prediction(image: np.ndarray, values: np.ndarray, kind: LabelKind) -> np.ndarray:
    """Draw the prediction of one label of an image ``(H, W, 3)`` with its legend or bar: uint8 RGB.

    The picture is as wide as the image, within 480 to 1280 pixels.
    """
    width = min(max(image.shape[1], NARROWEST), WIDEST)
    return _render(image, {kind.name: values}, {kind.name: kind}, width, with_image=False)


def render_side_by_side(image: np.ndarray, values: Mapping[str, np.ndarray], labels: Mapping[str, LabelKind]) -> np.ndarray:
    """Draw the image ``(H, W, 3)`` and its predictions, by name of the label, in a row, with legend and bars: uint8 RGB."""
    return _render(image, values, labels, TILE_WIDTH, with_image=True)


def _render(
    image: np.ndarray, values: Mapping[str, np.ndarray], labels: Mapping[str, LabelKind], width: int, with_image: bool
) -> np.ndarray:
    titles = {name: titles_of(name, labels[name], labels)[1] for name in values}
    row = {'image': image, **{titles[name]: colour_over(image, each, labels[name]) for name, each in values.items()}}
    kinds = [labels[name] for name in values]
    bars = [bar for kind in kinds if (bar := kind.colour_bar())]
    # A bar says what a note would.
    notes = [note for kind in kinds if kind.colour_bar() is None and (note := kind.note())]
    return render_tiles(
        [row],
        [*(['image'] if with_image else []), *titles.values()],
        tile_width=width,
        legend=[entry for kind in kinds for entry in kind.legend()],
        notes=notes,
        smooth=('image', *(titles[name] for name in values if labels[name].is_class_map)),
        bars=bars,
    )


def crop_attention(attention: np.ndarray, padded_size: tuple[int, int], size: tuple[int, int]) -> np.ndarray:
    """Return the cells of coarse maps ``(N, h, w)`` of a padded image that the image of ``size`` at its top left touches."""
    height, width = (
        -(-side * cells // padded) for side, cells, padded in zip(size, attention.shape[-2:], padded_size, strict=True)
    )
    return attention[:, :height, :width]


def overlay_attention(image: np.ndarray, attention: np.ndarray, frame: Sequence[int] | None = None) -> np.ndarray:
    """Draw coarse attention ``(h, w)``, scaled from 0 to its maximum, over an image ``(H, W, 3)`` in grey, with a frame."""
    height, width = image.shape[:2]
    heat = cv2.resize(np.ascontiguousarray(attention, np.float32), (width, height), interpolation=cv2.INTER_LINEAR)
    heat = heat / max(heat.max(), np.finfo(np.float32).tiny)
    colours = colour_values(heat, np.ones(heat.shape, bool), 'inferno')
    share = (SHARES[0] + (SHARES[1] - SHARES[0]) * heat)[..., None]
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)[..., None]
    picture = (share * colours + (1 - share) * grey).round().astype(np.uint8)
    if frame is not None:
        edge = max(min(picture.shape[:2]) // 40, 1)
        inside = picture[edge:-edge, edge:-edge]
        return cv2.copyMakeBorder(inside, edge, edge, edge, edge, cv2.BORDER_CONSTANT, value=tuple(map(int, frame)))
    return picture


def render_attention_grid(rows: Sequence[Mapping], labels: Mapping[str, LabelKind], tile_width: int = 180) -> np.ndarray:
    """Draw one row per sample: image, label, prediction, and the attention of each class over the image.

    ``rows`` are those of :func:`render_prediction_grid`, with ``attention`` ``(N, h, w)`` of the classes after the first;
    ``labels`` holds the kind of the one label, a class map.
    """
    (kind,) = labels.values()
    tiles = []
    for row in rows:
        tiles.append(label_tiles(row, labels))
        looks = zip(kind.classes[1:], row['attention'], strict=True)
        tiles[-1].update({f'attention: {name}': overlay_attention(row['image'], attention) for name, attention in looks})
    columns = list(dict.fromkeys(name for row in tiles for name in row))
    smooth = [name for name in columns if name not in kind.titles]
    return render_tiles(tiles, columns, tile_width=tile_width, legend=kind.legend(), notes=[NOTE], smooth=smooth)


def render_class_maps(
    image: np.ndarray, logits: np.ndarray, classes: Sequence[str], shown: Sequence[int], tile_width: int = 240
) -> np.ndarray:
    """Draw the similarity of each shown class, which is its logit, above its probability.

    ``logits`` ``(K, H, W)`` are of all classes; those of the ids ``shown``, from left to right, share one scale of similarity.
    """
    odds = np.exp(logits - logits.max(0))
    probabilities = odds / odds.sum(0)
    least, most = float(logits[shown].min()), float(logits[shown].max())
    similarities = (logits - least) / max(most - least, np.finfo(np.float32).tiny)
    known = np.ones(image.shape[:2], bool)
    rows = [
        {'image': image, **{classes[index]: colour_values(maps[index], known, 'viridis') for index in shown}}
        for maps in (similarities, probabilities)
    ]
    columns = ['image', *(classes[index] for index in shown)]
    notes = [f'similarity: dark .. yellow, from {least:.1f} to {most:.1f}; probability: from 0 to 1']
    captions = ['similarity', 'probability']
    return render_tiles(rows, columns, tile_width=tile_width, notes=notes, smooth=columns, captions=captions)
