"""Results of a sweep: a JSON file, a table and plots."""

import math
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from mtl_plugins.errors import ConfigError, UserError
from mtl_plugins.evaluation.scores import title_of
from mtl_plugins.lab.experiments.definition import Sweep
from mtl_plugins.lab.experiments.points import Points
from mtl_plugins.lab.experiments.results import BASELINE_FILE, read_note, write_json
from mtl_plugins.lab.experiments.tables import SINGLE, Row, make_tables, to_table
from mtl_plugins.lab.plots.sweep_plots import (
    CostPoint,
    render_losses,
    render_score_against_cost,
    render_scores,
)
from mtl_plugins.lab.runs.training_log import read_scalars
from mtl_plugins.lab.tables import to_markdown
from mtl_plugins.utils.data_files import ANY, is_number
from mtl_plugins.utils.files import make_folder, replacing
from mtl_plugins.visualization.plots import write_picture

Record = Mapping[str, Any]


def write_report(points: Points, data_root: Path | None = None, folder: Path | None = None) -> list[Path]:
    """Write ``trials.json`` into the work dir, and ``table.md`` and plots into a folder or next to the results; return the files.

    Raises:
        UserError: If no trial has ended, or a result was made otherwise than the sweep states.
    """
    sweep, folder = points.sweep, folder or points.results.parent
    records = [record for record in points.records(strict=True) if record['state'] != 'waiting']
    ended = [record for record in records if record['state'] != 'running']
    if not ended:
        raise UserError(f'No trial of the sweep {sweep.path} has ended yet: there is no result in {points.results}.')
    baseline = read_note(points.results / BASELINE_FILE, dict(metrics={ANY: is_number})) if sweep.baseline else {}
    tables = make_tables(sweep, ended, baseline, data_root)
    rows = [row for table in tables.values() for row in table]
    trials = [_trial(record, points.work_dir) for record in records]
    about = dict(sweep=sweep.name, about=sweep.about, metric=sweep.metric or 'score')
    make_folder(folder, ConfigError)
    written = [points.work_dir / 'trials.json', folder / 'table.md']
    write_json(written[0], dict(**about, rows=rows, trials=trials))
    with replacing(written[1]) as temporary:
        temporary.write_text(_markdown(sweep, tables, records), encoding='utf-8')
    for name, picture in _pictures(sweep, ended, rows).items():
        written.append(folder / f'{name}.png')
        write_picture(written[-1], picture)
    return written


def _markdown(sweep: Sweep, tables: Mapping[str, list[Row]], records: Sequence[Record]) -> str:
    blocks = [f'# {sweep.name}', *filter(None, [sweep.about])]
    for title, rows in tables.items():
        blocks += [*filter(None, [f'## {title}' if title else '']), to_markdown(to_table(rows)).strip()]
    documents = [document for record in records for document in record['documents']]
    documents.sort(key=lambda document: document['seed'])
    facts = [f'{sum(record["state"] == "complete" for record in records)} of {len(records)} trials completed']
    devices = list(dict.fromkeys(document['device'] for document in documents))
    if documents:
        dates = sorted(document['date'][:10] for document in documents)
        commits = sorted({document['commit'][:7] for document in documents if document['commit']})
        versions = sorted({document['versions']['torch'] for document in documents})
        facts += [f'commit {", ".join(commits)}', f'{dates[0]} to {dates[-1]}', *devices, f'torch {", ".join(versions)}']
    spread = '95 % t-interval of the mean over seeds' if sweep.single_tasks else 'standard deviation over seeds'
    sentences = ['; '.join(facts), f'Last validation, validation split; mean and {spread}']
    if sweep.targets:
        goals = ' and '.join(f'{goal:g} {title_of(name)}' for name, goal in sweep.targets.items())
        sentences += [
            f'To {goals}, validated every {sweep.val_iters} iterations',
            'Training time without validation, start of the process and wait for the first batch',
            'The ratio is that of the processor seconds of the first row',
        ]
    elif sweep.single_tasks and len(devices) > 1:
        sentences.append(f'Steps and memory are those on {devices[0]}')
    return '\n\n'.join([*blocks, f'{". ".join(sentences)}.']) + '\n'


def _trial(record: Record, work_dir: Path) -> dict[str, Any]:
    keys = ('number', 'label', 'seeds', 'state', 'score', 'error')
    params = {**({'row': record['row']} if record['row'] else {}), **(record['params'] or {})}
    known = {
        key: [document[key] for document in record['documents'] if document.get(key) is not None]
        for key in ('seconds', 'memory', 'parameters')
    }
    folders = [str(folder.relative_to(work_dir)) for folder in record['folders']]
    costs = {key: statistics.mean(values) if values else None for key, values in known.items()}
    return {**{key: record[key] for key in keys}, 'params': params, **costs, 'folders': folders}


def _losses(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """Return the iterations and losses that a training logged."""
    rows = [row for row in read_scalars(folder) if 'loss' in row]
    return np.array([row['iter'] for row in rows]), np.array([row['loss'] for row in rows])


def _pictures(sweep: Sweep, ended: Sequence[Record], rows: Sequence[Row]) -> dict[str, Figure]:
    scores = np.array([math.nan if record['score'] is None else record['score'] for record in ended])
    look = dict(metric=title_of(sweep.metric or ''), higher_is_better=sweep.sign > 0)
    pictures = {}
    named = [item.name for item in sweep.parameters if any(isinstance(label, str) for label in item.choices)]
    for name in sweep.space if sweep.metric else ():
        other = next((item for item in named if item != name), None)
        groups = [str(record['params'][other]) if other else record['row'] for record in ended]
        values = [record['params'][name] for record in ended]
        pictures[f'score_by_{_last(name).replace(" ", "_")}'] = render_scores(
            values, scores, groups, parameter=_spoken(name), **look
        )
    curves = [(record['label'], *_losses(record['folders'][0])) for record in ended]
    drawn = [index for index, (_, iterations, _) in enumerate(curves) if len(iterations)]
    if drawn:
        pictures['losses'] = render_losses([curves[index] for index in drawn], scores[drawn], **look)
    timed = [row for row in rows if sweep.single_tasks and row['ms per step'] and row['delta_m %']]
    if timed:
        gains = [0.0 if row['row'] == SINGLE else row['delta_m %']['mean'] for row in timed]
        steps = [CostPoint(row['row'], row['ms per step']['mean'], gain) for row, gain in zip(timed, gains, strict=True)]
        pictures['delta_m_against_step'] = render_score_against_cost(steps, 'milliseconds of a training step', 'delta_m (%)')
    return pictures


def _last(name: str) -> str:
    return name.split('.')[-1]


def _spoken(name: str) -> str:
    """Return the last part of a dotted key as words."""
    last = _last(name).replace('_', ' ')
    return 'learning rate' if last == 'lr' else last
