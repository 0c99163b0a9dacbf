"""A picture of predictions: rows of image | label | prediction | ... | error."""

from collections.abc import Mapping, Sequence

import numpy as np

from mtl_plugins.labels.colours import INVALID
from mtl_plugins.labels.label_kind import LabelKind
from mtl_plugins.visualization.tiles import render_tiles


def render_prediction_grid(rows: Sequence[Mapping], labels: Mapping[str, LabelKind], tile_width: int = 320) -> np.ndarray:
    """Draw one row per sample with a header and a legend.

    Args:
        rows: Each with ``image`` ``(H, W, 3)`` uint8 RGB, ``labels`` and ``predictions``: values by name, each may lack some;
            and, if it has a name, ``caption``.
        labels: The kinds by name. The order is that of the columns.
        tile_width: Width of a picture in pixels.

    Returns:
        uint8 RGB ``(height, width, 3)``.
    """
    tiles = []
    for row in rows:
        tiles.append(label_tiles(row, labels))
        error = error_picture(row, labels)
        if error is not None:
            tiles[-1]['error'] = error
    heads = [title for name, kind in labels.items() for title in titles_of(name, kind, labels)]
    columns = [name for name in ('image', *heads, 'error') if any(name in row for row in tiles)]
    shown = [name for name in labels if any(name in row['labels'] or name in row['predictions'] for row in rows)]
    notes = [labels[name].note() for name in shown]
    if 'error' in columns:
        drawn = {labels[name] for row in rows for name in drawn_errors(row, labels)}
        words = [kind.error_note for kind in sorted(drawn, key=lambda kind: -kind.error_rank)]
        notes.append('error: ' + '; '.join(dict.fromkeys(words)))
    legend = [entry for name in shown for entry in labels[name].legend()]
    bars = [bar for name in shown if (bar := labels[name].colour_bar())]
    captions = [row.get('caption', '') for row in rows] if any('caption' in row for row in rows) else ()
    notes = [note for note in notes if note]
    return render_tiles(tiles, columns, tile_width=tile_width, legend=legend, notes=notes, bars=bars, captions=captions)


def titles_of(name: str, kind: LabelKind, labels: Mapping[str, LabelKind]) -> tuple[str, str]:
    """The two headings of a label, with its name where another one of the data has the same."""
    ambiguous = sum(other.titles == kind.titles for other in labels.values()) > 1
    return tuple(f'{title} ({name})' for title in kind.titles) if ambiguous else kind.titles


def label_tiles(row: Mapping, labels: Mapping[str, LabelKind]) -> dict[str, np.ndarray]:
    """``image`` and the colours of each label and prediction of a row, by heading."""
    tiles = {'image': row['image']}
    for name, kind in labels.items():
        for title, values in zip(titles_of(name, kind, labels), (row['labels'], row['predictions']), strict=True):
            if name in values:
                tiles[title] = kind.colour(values[name])
    return tiles


def drawn_errors(row: Mapping, labels: Mapping[str, LabelKind]) -> list[str]:
    """The labels whose errors a row shows, in the order in which they are drawn."""
    known = [name for name, kind in labels.items() if kind.error_note and name in row['labels'] and name in row['predictions']]
    known.sort(key=lambda name: labels[name].error_rank)
    below = [name for name in known if labels[name].error_rank < 0]
    return below[-1:] + known[len(below) :]


def error_picture(row: Mapping, labels: Mapping[str, LabelKind]) -> np.ndarray | None:
    """Where predictions differ from labels ``(H, W, 3)``: kinds draw one over the other. Grey: no label. None if none draws."""
    names = drawn_errors(row, labels)
    if not names:
        return None
    picture = np.full((*row['labels'][names[0]].shape[:2], 3), INVALID, np.uint8)
    for name in names:
        labels[name].draw_error(picture, row['labels'][name], row['predictions'][name])
    return picture
