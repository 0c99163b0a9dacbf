"""What came out of a sweep: a JSON file, a table and the plots."""

import json
import math
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from matplotlib.figure import Figure
from optuna.trial import FrozenTrial, TrialState

from mtl_plugins.errors import UserError
from mtl_plugins.lab.experiments.definition import Sweep, shorten
from mtl_plugins.lab.experiments.launch import write_document
from mtl_plugins.lab.experiments.study import SharedStudy
from mtl_plugins.lab.plots.sweep_plots import render_cost, render_importance, render_losses, render_scores
from mtl_plugins.records.training_log import read_scalars
from mtl_plugins.utils.data_files import is_number, read_json
from mtl_plugins.utils.files import replacing
from mtl_plugins.utils.score_names import SUMMARY_TITLES
from mtl_plugins.visualization.plots import write_picture

ENOUGH_FOR_IMPORTANCE = 4


def write_report(sweep: Sweep, study: SharedStudy, work_dir: Path) -> list[Path]:
    """``trials.json``, ``table.md`` and the plots in ``work_dir``; a plot without enough trials is left out.

    Returns:
        What was written.

    Raises:
        UserError: If no trial has ended.
    """
    records = [_record(sweep, trial, work_dir) for trial in study.trials() if trial.state != TrialState.WAITING]
    if not any(record['state'] != 'running' for record in records):
        raise UserError(f'No trial of {work_dir} has ended yet. Run the sweep first.')
    importance = _importance(sweep, study)
    written = [work_dir / 'trials.json', work_dir / 'table.md']
    # The losses are in the logs of the trainings.
    trials = [{key: value for key, value in record.items() if key != 'losses'} for record in records]
    write_document(written[0], dict(sweep=sweep.name, metric=sweep.metric, importance=importance, trials=trials))
    with replacing(written[1]) as temporary:
        temporary.write_text(table_in_markdown(sweep, records), encoding='utf-8')
    for name, picture in _pictures(sweep, records, importance).items():
        written.append(work_dir / f'{name}.png')
        write_picture(written[-1], picture)
    return written


def table_in_markdown(sweep: Sweep, records: Sequence[dict]) -> str:
    """A row for each point, the best first, then those without a score: mean and standard deviation over its trials' seeds."""
    points: dict[str, list[dict]] = {}
    for record in records:
        if record['state'] != 'running':
            points.setdefault(json.dumps(record['params'], sort_keys=True), []).append(record)
    sign = -1 if sweep.direction == 'maximize' else 1
    rows = sorted(points.values(), key=lambda group: (not _scores(group), sign * statistics.mean(_scores(group) or [0])))
    title = SUMMARY_TITLES.get(sweep.metric, sweep.metric)
    names = list(sweep.space)
    lines = [f'# {sweep.name}', '']
    lines += [f'| {" | ".join(names)} | {title} | seeds | time (s) | memory (MiB) | parameters | |']
    lines += ['|---|' + '---|' * (len(names) - 1) + '---:|' * 5 + '---|']
    for group in rows:
        scores = _scores(group)
        spread = f' ± {statistics.stdev(scores):.2f}' if len(scores) > 1 else ''
        cells = [shorten(group[0]['params'].get(name, '')) for name in names]
        cells.append(f'{statistics.mean(scores):.2f}{spread}' if scores else '')
        cells.append(str(sum(len(record['seeds']) for record in group)))
        for key, form in (('seconds', '{:.0f}'), ('memory', '{:.0f}'), ('parameters', '{:,.0f}')):
            known = [record[key] for record in group if record[key] is not None]
            cells.append(form.format(statistics.mean(known)) if known else '')
        cells.append(
            '; '.join(dict.fromkeys(record['error'] or record['state'] for record in group if record['state'] != 'complete'))
        )
        lines.append(f'| {" | ".join(cells)} |')
    ended = [record for record in records if record['state'] == 'complete']
    provenance = [item for record in ended for item in record['provenance']]
    commits = ', '.join(sorted({item['commit'][:7] for item in provenance if item['commit']}))
    devices = ', '.join(sorted({item['device'] for item in provenance}))
    lines += [
        '',
        f'{len(ended)} of {len(records)} trials completed; commit {commits}; {devices}. Last validation, {sweep.direction}.',
    ]
    return '\n'.join(lines) + '\n'


def _record(sweep: Sweep, trial: FrozenTrial, work_dir: Path) -> dict[str, Any]:
    seeds = [trial.user_attrs['seed']] if sweep.is_grid else list(sweep.seeds)
    number = trial.user_attrs.get('origin', trial.number)
    folders = [work_dir / 'trials' / f'{number:04d}_seed{seed}' for seed in seeds]
    paths = [folder / 'result.json' for folder in folders]
    results = [read_json(path, 'result', dict(seconds=is_number, memory=is_number)) for path in paths if path.exists()]
    means = {key: statistics.mean(result[key] for result in results) if results else None for key in ('seconds', 'memory')}
    return dict(
        number=trial.number,
        state=trial.state.name.lower(),
        params=trial.params,
        seeds=seeds,
        score=trial.value if trial.state == TrialState.COMPLETE else None,
        error=trial.user_attrs.get('error'),
        **means,
        parameters=results[0]['parameters'] if results else None,
        folders=[str(folder.relative_to(work_dir)) for folder in folders],
        provenance=[{key: result[key] for key in ('commit', 'date', 'device')} for result in results],
        losses=[_losses(folder) for folder in folders],
    )


def _losses(folder: Path) -> list[list[float]]:
    """Iterations and losses that a training logged; those of a later attempt replace the earlier ones of an iteration."""
    rows = [row for row in read_scalars(folder) if 'loss' in row]
    return [[row[key] for row in rows] for key in ('iter', 'loss')]


def _importance(sweep: Sweep, study: SharedStudy) -> dict[str, float]:
    """Shares of the variance of the score by functional ANOVA; empty with too few trials or one parameter."""
    ended = [trial for trial in study.trials() if trial.state == TrialState.COMPLETE]
    varied = [name for name in sweep.space if len({str(trial.params.get(name)) for trial in ended}) > 1]
    if len(ended) < ENOUGH_FOR_IMPORTANCE or len(varied) < 2 or len({trial.value for trial in ended}) < 2:
        return {}
    evaluator = optuna.importance.FanovaImportanceEvaluator(seed=0)
    return optuna.importance.get_param_importances(study.study, evaluator=evaluator, params=varied)


def _pictures(sweep: Sweep, records: Sequence[dict], importance: dict[str, float]) -> dict[str, Figure]:
    ended = [record for record in records if record['state'] != 'running']
    scores = np.array([math.nan if record['score'] is None else record['score'] for record in ended])
    title = SUMMARY_TITLES.get(sweep.metric, sweep.metric)
    higher = sweep.direction == 'maximize'
    pictures = {}
    named = [item.name for item in sweep.parameters if any(isinstance(label, str) for label in item.labels)]
    for name in sweep.space:
        have = [index for index, record in enumerate(ended) if name in record['params']]
        other = next((item for item in named if item != name), None)
        pictures[f'score_by_{_file_name(name)}'] = render_scores(
            [ended[index]['params'][name] for index in have],
            scores[have],
            [str(ended[index]['params'].get(other, '')) if other else '' for index in have],
            parameter=_spoken(name),
            metric=title,
            higher_is_better=higher,
        )
    curves = [(_name(record), *map(np.array, record['losses'][0])) for record in ended]
    drawn = [index for index, (_, iterations, _) in enumerate(curves) if len(iterations)]
    if drawn:
        pictures['losses'] = render_losses(
            [curves[index] for index in drawn], scores[drawn], metric=title, higher_is_better=higher
        )
    batch = next((name for name in sweep.space if 'batch' in name), None)
    measured = [record for record in ended if record['seconds'] is not None and isinstance(record['params'].get(batch), int)]
    if measured:
        pictures['cost_by_batch_size'] = render_cost(
            [record['params'][batch] for record in measured],
            np.array([record['seconds'] for record in measured]),
            np.array([record['memory'] for record in measured]),
        )
    if importance:
        pictures['importance'] = render_importance({_spoken(name): share for name, share in importance.items()}, title)
    return pictures


def _scores(group: Sequence[dict]) -> list[float]:
    return [record['score'] for record in group if record['score'] is not None]


def _name(record: dict) -> str:
    return ', '.join(f'{_spoken(name)} {shorten(value)}' for name, value in record['params'].items())


def _spoken(name: str) -> str:
    """The last part of a dotted key as words."""
    last = name.split('.')[-1].replace('_', ' ')
    return 'learning rate' if last == 'lr' else last


def _file_name(name: str) -> str:
    return name.split('.')[-1].replace(' ', '_')
