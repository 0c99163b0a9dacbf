"""A report on runs: one page that holds everything, the same tables as files, figures as PNG and PDF."""

import contextlib
import datetime
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

import mtl_plugins
from mtl_plugins.errors import ConfigError, DataError
from mtl_plugins.lab.plots.analysis_pictures import draw_confusions, draw_errors
from mtl_plugins.lab.plots.curves import read_curve, render_curves
from mtl_plugins.lab.plots.sweep_plots import CostPoint, render_score_against_cost, render_scores
from mtl_plugins.lab.report.curves import colours_of, curves_of, render_page
from mtl_plugins.lab.report.groups import (
    RunGroup,
    config_table,
    group_runs,
    has_metric,
    ladder_table,
    lower_is_better,
    metrics_of,
    provenance_table,
)
from mtl_plugins.lab.report.predictions import Predictions, encode_photo, encode_plot, gallery_of, predict
from mtl_plugins.lab.report.resources import COSTS, RunCost, read_costs, resource_table
from mtl_plugins.lab.runs.tables import make_table
from mtl_plugins.lab.runs.work_dirs import RunRecord, require_runs
from mtl_plugins.lab.tables import WRITERS, Table
from mtl_plugins.records.config_data import as_data
from mtl_plugins.records.provenance import code_state
from mtl_plugins.utils.cli import track
from mtl_plugins.utils.files import make_folder, save_text
from mtl_plugins.visualization.plots import to_array, write_picture

PAGE = 'index.html'
WIDEST_RANKED = 1100


@dataclass
class _Report:
    runs: list[RunRecord]
    groups: list[RunGroup]
    monitor: str
    best: str | None
    costs: list[RunCost]
    found: Predictions | None = None
    without: list[str] = field(default_factory=list)

    @property
    def title(self) -> str:
        return metrics_of(self.groups)[self.monitor]


def write_report(
    folders: Sequence[Path],
    out: Path,
    title: str = 'Report',
    names: Sequence[str] | None = None,
    size: tuple[int, int] = (256, 256),
    predictions: Mapping[str, Any] | None = None,
) -> list[Path]:
    """Write the report into ``out``: ``index.html``, ``report.json``, ``tables/`` and ``figures/``; return the files.

    ``names`` are those of the rows in their order, by default those of the folders without ``_seed<number>``; ``size`` that of
    the image whose operations are counted; ``predictions`` the arguments of :func:`predict`, None for no checkpoints and no
    data.
    """
    report = _collect(folders, names, size, predictions)
    tables = _tables(report)
    figures = _figures(report)
    drawn = {
        name: figure if isinstance(figure, np.ndarray) else to_array(figure)
        for name, figure in track(figures.items(), len(figures), 'Drawing figures')
    }
    # Nothing is written before everything is known.
    page = _page(report, tables, drawn, title, size)
    written = [out / PAGE, out / 'report.json']
    make_folder(out)
    for name, table in tables.items():
        for suffix, convert in WRITERS.items():
            written.append(save_text(out / 'tables' / f'{name}.{suffix}', convert(table)))
    make_folder(out / 'figures')
    for name, figure in figures.items():
        for suffix, picture in dict(png=drawn[name], pdf=figure).items():
            written.append(out / 'figures' / f'{name}.{suffix}')
            write_picture(written[-1], picture)
    save_text(written[1], json.dumps(_document(report), indent=1) + '\n')
    save_text(written[0], page)
    return written


def _collect(
    folders: Sequence[Path], names: Sequence[str] | None, size: tuple[int, int], predictions: Mapping[str, Any] | None
) -> _Report:
    runs = require_runs(folders)
    groups = _rename(group_runs(runs), names)
    metrics = metrics_of(groups)
    if not metrics:
        raise ConfigError(f'None of the {len(runs)} runs has a score: train each until its first validation.')
    # The one that most rows have; of those the last, which sums up the others.
    monitor = max(reversed(metrics), key=lambda name: sum(has_metric(group, name) for group in groups))
    sign = -1 if lower_is_better(groups, monitor) else 1
    scored = [group for group in groups if has_metric(group, monitor)]
    best = max(scored, key=lambda group: sign * group.mean(monitor)).name
    configured = [group for group in groups if group.runs[0].config_sections.get('model')]
    costs = read_costs(configured, size)
    refused = {group.name for group in configured} - {cost.name for cost in costs}
    report = _Report(runs, groups, monitor, best, costs)
    able = [group for group in groups if group.representative is not None and group.name not in refused]
    report.without = [group.name for group in groups if group not in able]
    if predictions is not None and able:
        report.found = predict(able, best if best not in report.without else able[0].name, **predictions)
    return report


def _rename(groups: list[RunGroup], names: Sequence[str] | None) -> list[RunGroup]:
    if names is None:
        return groups
    if len(set(names)) != len(groups):
        listed = ', '.join(group.name for group in groups)
        raise ConfigError(f'`--names` should name each of the {len(groups)} rows differently: {listed}. Found {len(set(names))}.')
    return [RunGroup(name, group.runs) for name, group in zip(names, groups, strict=True)]


def _tables(report: _Report) -> dict[str, Table]:
    tables: dict[str, Table] = {'rows': ladder_table(report.groups), 'runs': make_table(report.runs)}
    if report.costs:
        tables['resources'] = resource_table(report.costs, report.monitor, report.title)
    tables['configs'] = config_table(report.groups)
    tables['provenance'] = provenance_table(report.groups)
    return tables


def _figures(report: _Report) -> dict[str, Figure | np.ndarray]:
    figures: dict[str, Figure | np.ndarray] = {}
    lower = lower_is_better(report.groups, report.monitor)
    for metric, name in ((report.monitor, report.title), ('loss', 'loss')):
        curves = []
        for group in report.groups:
            own = []
            for run in group.runs:
                # Not logged, or not yet.
                with contextlib.suppress(ConfigError, DataError):
                    own.append(read_curve(run.path, metric, group.name))
            # Seeds that share no iteration have no mean.
            if own and set.intersection(*(set(curve.iterations.tolist()) for curve in own)):
                curves += own
        if curves and max(len(curve.values) for curve in curves) > 1:
            figures[f'curves_{_file_name(name)}'] = render_curves(curves, metric)
    for metric, title in metrics_of(report.groups).items():
        shown = [(group.name, score) for group in report.groups if has_metric(group, metric) for score in group.scores(metric)]
        names, scores = zip(*shown, strict=True)
        look = dict(parameter='row', metric=title, higher_is_better=not lower_is_better(report.groups, metric))
        figures[f'rows_{_file_name(title)}'] = render_scores(names, np.array(scores), [''] * len(scores), **look)
    for key, title in COSTS.items():
        points = [
            CostPoint(cost.name, getattr(cost, key), group.mean(report.monitor))
            for cost in report.costs
            for group in report.groups
            if group.name == cost.name and getattr(cost, key) is not None and has_metric(group, report.monitor)
        ]
        if points:
            figures[f'score_against_{key}'] = render_score_against_cost(points, title, report.title, lower)
    if report.found:
        splits = {name: analysis.split for name, analysis in report.found.analyses.items()}
        figures |= draw_confusions(splits) | draw_errors(splits, report.found.aspect)
        figures |= {f'ranked_{label}': picture for label, picture in report.found.ranked.items()}
    return figures


def _file_name(text: str) -> str:
    return ''.join(letter if letter.isalnum() else '_' for letter in text)


def _page(
    report: _Report, tables: Mapping[str, Table], drawn: Mapping[str, np.ndarray], title: str, size: tuple[int, int]
) -> str:
    found, groups = report.found, report.groups

    def plots(start: str) -> list[dict]:
        return [encode_plot(picture) for name, picture in drawn.items() if name.startswith(start)]

    labels: dict[str, tuple[list[dict], list[dict]]] = {}
    for name, picture in drawn.items():
        kind, _, rest = name.partition('_')
        if found and kind in ('iou', 'confusion', 'error'):
            # The longest of those that it may begin with.
            label = max((each for each in found.labels if f'{rest}_'.startswith(f'{each}_')), key=len)
            labels.setdefault(label, ([], []))[kind == 'error'].append(encode_plot(picture))
    gallery = gallery_of(found) if found else None
    data = dict(
        curves=curves_of(groups),
        colours=list(colours_of([group.name for group in groups]).values()),
        monitor=report.monitor,
        gallery=gallery,
        best=report.best,
    )
    sections = [('rows', 'Rows'), ('curves', 'Curves'), *((f'errors-{name}', name.capitalize()) for name in labels)]
    sections += [('gallery', 'Gallery')] if gallery else []
    sections += [('resources', 'Resources')] if 'resources' in tables else []
    sections += [('configs', 'Configs')] if tables['configs'].rows else []
    return render_page(
        'report.html',
        title=title,
        sources='',
        sections=[*sections, ('runs', 'Runs'), ('provenance', 'Provenance')],
        summary=_summary(report),
        made=_made(),
        tables={'resources': None, **tables},
        rows=plots('rows_') if len(groups) > 1 else [],
        costs=plots('score_against_'),
        labels=labels,
        predictions_note=_predictions_note(report),
        has_gallery=gallery is not None,
        ranked=[(label, encode_photo(picture, WIDEST_RANKED)) for label, picture in found.ranked.items()] if found else [],
        ranked_of=found.ranked_of if found else '',
        size=size,
        data=as_data(data),
    )


def _summary(report: _Report) -> str:
    group = next(each for each in report.groups if each.name == report.best)
    scores = ', '.join(
        f'{title} {group.mean(name):.2f}' for name, title in metrics_of([group]).items() if has_metric(group, name)
    )
    runs, rows = len(report.runs), len(report.groups)
    unfinished = [run for run in report.runs if run.state not in ('finished', 'unknown')]
    text = f'{runs} run{"s" * (runs != 1)} in {rows} row{"s" * (rows != 1)}. '
    text += f'Best {report.title}: {report.best} ({scores}).' if rows > 1 else f'{report.best}: {scores}.'
    return text + (f' {len(unfinished)} did not finish: see the list of runs.' if unfinished else '')


def _made() -> str:
    now = datetime.datetime.now(datetime.timezone.utc)
    commit = code_state().get('commit')
    return f'Made on {now:%Y-%m-%d %H:%M} UTC by mtl_plugins {mtl_plugins.__version__}' + (
        f', commit {commit[:10]}.' if commit else '.'
    )


def _predictions_note(report: _Report) -> str:
    if not report.found:
        return ''
    images = f'All {report.found.number} images of the split {report.found.split}'
    text = f'{images}, by the best checkpoint of the first seed of each row.'
    reasons = 'Without a checkpoint, without labels, or with a config that cannot be used'
    return text + (f' {reasons}: {", ".join(report.without)}.' if report.without else '')


def _document(report: _Report) -> dict[str, Any]:
    found = report.found
    rows = [
        dict(
            name=group.name,
            runs=[
                dict(path=run.path.name, scores=dict(run.scores), **{key: run.get(key) for key in ('seed', 'state', 'code')})
                for run in group.runs
            ],
            means={name: group.mean(name) for name in metrics_of([group])},
        )
        for group in report.groups
    ]
    predictions = None
    if found:
        models = {name: analysis.describe() for name, analysis in found.analyses.items()}
        predictions = dict(split=found.split, images=found.number, models=models)
    costs = [vars(cost) for cost in report.costs]
    about = dict(schema_version=1, monitor=report.monitor, best=report.best)
    return as_data(dict(**about, rows=rows, resources=costs, predictions=predictions))
