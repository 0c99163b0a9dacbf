"""Models side by side: the tables of their scores and the pictures of their predictions."""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table
from rich.text import Text

from mtl_plugins.evaluation.scores import title_of
from mtl_plugins.labels.label_kind import LabelKind
from mtl_plugins.utils.data_files import printable
from mtl_plugins.visualization.attention_maps import NOTE, overlay_attention
from mtl_plugins.visualization.tiles import render_tiles

TILE_WIDTH = 240
# A table: what stands above its first column, and a line of values per row, of each model one; None where it has none.
ScoreTable = tuple[str, list[tuple[str, list[float | None]]]]


def score_tables(document: Mapping) -> list[ScoreTable]:
    """The tables of a comparison: the summaries, then those of each label, its classes first where it has some."""
    scores = [model['scores'] for model in document['models']]
    names = list(dict.fromkeys(name for each in scores for name in each))
    summaries = [name for name in names if name.startswith('metrics_summary/')]
    tables = [('summary', [_row(title_of(name, name.split('/')[1]), name, scores) for name in summaries])]
    for label in document['data']['labels']:
        own = [name for name in names if name.startswith(f'metrics_task_{label}/')]
        if own:
            tables.append((label, [_row(name.split('/', 1)[1], name, scores) for name in own]))
    return tables


def _row(title: str, name: str, scores: Sequence[Mapping]) -> tuple[str, list[float | None]]:
    return title, [each.get(name) for each in scores]


def _cells(values: Sequence[float | None]) -> list[str]:
    """The values, and of two models the difference; four decimals where all of them are below 1."""
    known = [value for value in values if value is not None]
    digits = 4 if 0 < max(map(abs, known), default=0) < 1 else 2
    cells = ['' if value is None else f'{value:.{digits}f}' for value in values]
    if len(values) == 2:
        cells.append(f'{values[1] - values[0]:+.{digits}f}' if len(known) == 2 else '')
    return cells


def _headings(document: Mapping) -> list[str]:
    names = [model['name'] for model in document['models']]
    return [*names, 'difference'] if len(names) == 2 else names


def print_comparison(document: Mapping) -> None:
    """Print the tables."""
    data = document['data']
    for number, (heading, rows) in enumerate(score_tables(document)):
        table = Table(title=None if number else f'{data["images"]} images of {data["split"]}')
        table.add_column(Text(heading))
        for name in _headings(document):
            table.add_column(Text(printable(name)), justify='right')
        for title, values in rows:
            table.add_row(Text(title), *_cells(values))
        Console().print(table)


def comparison_in_markdown(document: Mapping) -> str:
    """The tables with what they were made from."""
    data, made = document['data'], document['provenance']
    lines = []
    for heading, rows in score_tables(document):
        names = _headings(document)
        lines += [f'| {heading} | {" | ".join(names)} |', '|---|' + '---:|' * len(names)]
        lines += [f'| {title} | {" | ".join(_cells(values))} |' for title, values in rows]
        lines.append('')
    changes = ' with uncommitted changes' if made['uncommitted_changes'] else ''
    lines += [
        f'Classes: IoU in per cent, one confusion matrix over all {data["images"]} images of the split `{data["split"]}` of '
        f'`{data["root"]}`. Commit {(made["commit"] or "unknown")[:10]}{changes}, {made["date"]}, {made["device"]}, torch '
        f'{made["versions"]["torch"]}.',
        '',
        '| model | config | checkpoint | sha256 | parameters |',
        '|---|---|---|---|---:|',
    ]
    for model in document['models']:
        lines.append(
            f'| {model["name"]} | `{model["config"]}` | `{model["checkpoint"]}` | {model["checkpoint_sha256"][:12]} | '
            f'{model["parameters"]:,} |'
        )
    return '\n'.join(lines) + '\n'


def draw_comparisons(
    examples: Sequence[Any], names: Sequence[str], labels: Mapping[str, LabelKind], largest: Sequence[int | None]
) -> dict[str, np.ndarray]:
    """The picture ``comparison_<label>`` of each label that an example has and a model predicts.

    Args:
        examples: Each with ``name``, ``image``, ``values``, and of each model ``predictions`` and ``attention``.
        names: Of the models.
        labels: The kinds by name.
        largest: Of each example the class whose attention is shown.
    """
    pictures = {}
    for label, kind in labels.items():
        rows = []
        for example, shown in zip(examples, largest, strict=True):
            predictions = [each.get(label) for each in example.predictions]
            if label not in example.values or all(prediction is None for prediction in predictions):
                continue
            row = dict(image=example.image, values=example.values[label], predictions=predictions, caption=example.name)
            if kind.is_class_map and shown:
                # Attention is that of the classes after the first.
                row['attention'] = [None if maps is None else maps[shown - 1] for maps in example.attention]
                row['frame'] = kind.palette[shown]
            rows.append(row)
        if rows:
            pictures[f'comparison_{label}'] = render_label_comparison(rows, names, kind)
    return pictures


def render_label_comparison(
    rows: Sequence[Mapping], names: Sequence[str], kind: LabelKind, note: str | None = None
) -> np.ndarray:
    """Draw the predictions of one label by several models: image, label, predictions, their errors, attention where there is.

    Args:
        rows: Each with ``image`` ``(H, W, 3)`` uint8 RGB, ``values``, ``predictions``: of each model values or None, and
            ``caption``; optionally ``attention``: of each model ``(h, w)`` or None, and ``frame``, the colour of its frame.
        names: Of the models.
        kind: Of the label.
        note: A sentence below.

    Returns:
        uint8 RGB ``(height, width, 3)``.

    Raises:
        ValueError: If there is no row.
    """
    tiles, attended = [], set()
    for row in rows:
        tile = {'image': row['image'], kind.titles[0]: kind.colour(row['values'])}
        for name, prediction in zip(names, row['predictions'], strict=True):
            if prediction is not None:
                tile[name] = kind.colour(prediction)
                if kind.pixel_error_names:
                    tile[_errors_of(name, names)] = kind.colour_errors(row['values'], prediction)
        for name, attention in zip(names, row.get('attention', ()), strict=False):
            if attention is not None:
                heading = f'attention of {name}'
                attended.add(heading)
                tile[heading] = overlay_attention(row['image'], attention.astype(np.float32), frame=row['frame'])
        tiles.append(tile)
    headings = itertools.chain(names, (_errors_of(name, names) for name in names), sorted(attended))
    columns = [name for name in ('image', kind.titles[0], *headings) if any(name in tile for tile in tiles)]
    attention_note = f'{NOTE}, for the class of the frame, which has the most pixels in the label'
    notes = [kind.note(), kind.colour_errors_note, attention_note if attended else None, note]
    return render_tiles(
        tiles,
        columns,
        tile_width=TILE_WIDTH,
        legend=kind.legend(),
        notes=[each for each in notes if each],
        smooth=('image', *attended),
        captions=[row['caption'] for row in rows],
        bars=[bar for bar in (kind.colour_bar(), kind.error_bar()) if bar],
    )


def _errors_of(name: str, names: Sequence[str]) -> str:
    return f'{name}, errors' if len(names) > 1 else 'errors'
