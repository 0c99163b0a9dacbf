"""The model table as a JSON document and as Markdown."""

from collections.abc import Mapping
from dataclasses import asdict

from benchmarks.model_table import Setting, ratios
from benchmarks.tables import provenance_in_words
from mtl_plugins.models.utils.model_stats import KINDS

_TIMES = {'train': 'training time', 'inference': 'inference time'}


def make_document(rows: Mapping[str, dict], configs: Mapping[str, str], reference: str, setting: Setting, made: dict) -> dict:
    """What :func:`measure` gave, with configs, ratios to the reference and provenance."""
    systems = {label: dict(config=configs[label], **row) for label, row in rows.items()}
    if setting.speed:
        for kind in _TIMES:
            for label, ratio in ratios(rows, reference, f'{kind}_ms').items():
                systems[label][f'{kind}_ratio'] = ratio
    settings = dict(asdict(setting), optimizer='Adam', reference=reference)
    return dict(schema_version=1, provenance=made, settings=settings, systems=systems)


def to_markdown(document: dict) -> str:
    """A row per system with a line on each column above, and below it the parts of each system."""
    settings = document['settings']
    return (
        '\n'.join([*_explanation(document), '', *_main_table(document['systems'], settings), '', *_parts(document['systems'])])
        + '\n'
    )


def _explanation(document: dict) -> list[str]:
    settings, made = document['settings'], document['provenance']
    size = f'{settings["size"]}x{settings["size"]}'
    where = 'max_memory_allocated' if made['device'] != 'cpu' else "the profiler's record of all allocations"
    text = (
        'Parameters in millions; the encoder includes the neck, the rest is predictors, queries, gates and tokens. GFLOPs of a '
        f'forward pass of one {size} image, a multiply-add being two; convolutions, matrix products and attention as they are '
        'computed. Training memory: the most that torch had allocated at any moment of a step at batch '
        f'{settings["batch_size"]}, weights, gradients and Adam included, by {where}.'
    )
    if settings['speed']:
        text += (
            f' Times over those of `{settings["reference"]}` in the same round: medians and, in brackets, quartiles, at batch '
            f'{settings["batch_size"]}; a training step with Adam, and predictions from normalised images, BatchNorm folded.'
        )
    if settings['amp']:
        text += ' Training under bfloat16 autocast, inference with bfloat16 weights.'
    return [text, '', provenance_in_words(made, ('torch', 'timm'))]


def _main_table(systems: Mapping[str, dict], settings: dict) -> list[str]:
    times = _TIMES if settings['speed'] else {}
    columns = ['system', *KINDS, 'all', 'GFLOPs', 'training memory (MiB)', *times.values()]
    lines = [f'| {" | ".join(columns)} |', '|---|' + '--:|' * (len(columns) - 1)]
    for label, row in systems.items():
        counts = [_millions(row['parameters_by_kind'][kind]) for kind in KINDS]
        cells = [label, *counts, _millions(row['parameters']), f'{row["flops"] / 1e9:.1f}', f'{row["peak_training_mib"]:.0f}']
        for kind in times:
            ratio = row[f'{kind}_ratio']
            cells.append(
                '1' if label == settings['reference'] else f'{ratio["median"]:.2f} ({ratio["q1"]:.2f} - {ratio["q3"]:.2f})'
            )
        lines.append(f'| {" | ".join(cells)} |')
    return lines


def _parts(systems: Mapping[str, dict]) -> list[str]:
    lines = ['| system | config | parts, in thousands of parameters |', '|---|---|---|']
    for label, row in systems.items():
        parts = ', '.join(f'{name.removeprefix("decode_head.")} {count / 1e3:.1f}' for name, count in row['parts'].items())
        lines.append(f'| {label} | `{row["config"]}` | {parts} |')
    return lines


def _millions(count: int) -> str:
    return f'{count / 1e6:.2f}' if count else ''
