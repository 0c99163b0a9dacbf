"""Two models side by side: the table of their scores and the picture of their predictions."""

from collections.abc import Mapping, Sequence

import numpy as np
from rich.console import Console
from rich.table import Table

from mtl_plugins.labels.colours import Colours, colour_labels, legend_of
from mtl_plugins.visualization.attention_maps import NOTE, overlay_attention
from mtl_plugins.visualization.tiles import render_tiles

TILE_WIDTH = 240


def score_rows(document: Mapping) -> list[tuple[str, float, float]]:
    """Name, IoU of the first model and IoU of the second, per class and for the mean."""
    names = {name: name for name in document['data']['classes']} | {'mIoU': 'mean_iou'}
    scores = [model['scores'] for model in document['models']]
    return [(label, *(score[f'metrics_task_semseg/{key}'] for score in scores)) for label, key in names.items()]


def print_comparison(document: Mapping) -> None:
    """Print the table."""
    first, second = (model['name'] for model in document['models'])
    table = Table(title=f'IoU on {document["data"]["images"]} images of {document["data"]["split"]}')
    table.add_column('class')
    for heading in (first, second, 'difference'):
        table.add_column(heading, justify='right')
    for label, a, b in score_rows(document):
        table.add_row(label, f'{a:.2f}', f'{b:.2f}', f'{b - a:+.2f}', style='bold' if label == 'mIoU' else None)
    Console().print(table)


def comparison_in_markdown(document: Mapping) -> str:
    """The table with what it was made from."""
    first, second = document['models']
    data, made = document['data'], document['provenance']
    lines = [f'| class | {first["name"]} | {second["name"]} | difference |', '|---|---:|---:|---:|']
    for label, a, b in score_rows(document):
        cells = [label, f'{a:.2f}', f'{b:.2f}', f'{b - a:+.2f}']
        lines.append('| ' + ' | '.join(f'**{cell}**' if label == 'mIoU' else cell for cell in cells) + ' |')
    changes = ' with uncommitted changes' if made['uncommitted_changes'] else ''
    lines += [
        '',
        f'IoU in per cent, one confusion matrix over all {data["images"]} images of the split `{data["split"]}` of '
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


def render_comparison(
    examples: Sequence[Mapping],
    names: Sequence[str],
    attention: Sequence[Mapping[str, np.ndarray]],
    classes: Sequence[str],
    palette: Colours,
) -> np.ndarray:
    """Draw one row per example: image, label, each model's prediction, each attention over the image.

    Args:
        examples: As :func:`~mtl_plugins.apis.comparison.compare` gives them.
        names: Of the models.
        attention: Of each model, maps by name of the image, of the classes after the first; empty for none.
        classes: Names of the labels.
        palette: Their colours.

    Returns:
        uint8 RGB ``(height, width, 3)``.

    Raises:
        ValueError: If there is no example.
    """
    rows = []
    for example in examples:
        row = dict(image=example['image'], label=colour_labels(example['semseg'], palette))
        for name, prediction in zip(names, example['predictions'], strict=True):
            row[name] = colour_labels(prediction, palette)
        for name, maps in zip(names, attention, strict=True):
            if maps:
                shown = maps[example['name']][example['label'] - 1].astype(np.float32)
                row[_attention_heading(name, attention)] = overlay_attention(
                    example['image'], shown, frame=palette[example['label']]
                )
        rows.append(row)
    columns = list(dict.fromkeys(column for row in rows for column in row))
    attended = [_attention_heading(name, attention) for name, maps in zip(names, attention, strict=True) if maps]
    notes = [f'{NOTE}, for the class of the frame, which has the most pixels in the label'] if attended else []
    legend = legend_of(classes, palette)
    return render_tiles(rows, columns, tile_width=TILE_WIDTH, legend=legend, notes=notes, smooth=('image', *attended))


def _attention_heading(name: str, attention: Sequence[Mapping]) -> str:
    return f'attention of {name}' if sum(map(bool, attention)) > 1 else 'attention'
