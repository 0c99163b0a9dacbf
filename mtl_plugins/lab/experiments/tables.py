"""The rows of the table of a sweep: scores and costs of each point, time to a score, and gains over networks of one task."""

import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mtl_plugins.config.links import offered_labels
from mtl_plugins.errors import UserError
from mtl_plugins.evaluation.scores import reaches, title_of, titles_in
from mtl_plugins.lab.experiments.definition import Sweep, shorten
from mtl_plugins.lab.experiments.results import BASELINE
from mtl_plugins.lab.experiments.task_gains import Rules, delta_m, mean_and_interval, mean_ranks, relative_changes
from mtl_plugins.lab.tables import Table
from mtl_plugins.labels.presets import build_labels

SINGLE = 'a network per task'
# Columns of whole numbers; others have two digits.
WHOLE = ('iterations', 'seconds', 'processor seconds', 'ms per step', 'MiB')
# A cell is text, or ``mean``, ``spread`` and ``values`` of a number.
Row = dict[str, Any]


@dataclass
class Group:
    """The trainings that differ in their seed only; ``states`` are those of points that did not complete."""

    row: str
    params: dict[str, Any]
    documents: dict[int, dict[str, Any]] = field(default_factory=dict)
    scores: list[float] = field(default_factory=list)
    states: dict[str, None] = field(default_factory=dict)

    @property
    def metrics(self) -> dict[int, dict[str, float]]:
        return {seed: document['metrics'] for seed, document in sorted(self.documents.items())}

    def frame(self, sweep: Sweep, cells: Row) -> Row:
        """Return a row of the table: what was tried, the cells given, and how many seeds there are."""
        parameters = next((f'{document["parameters"]:,}' for document in self.documents.values()), '')
        tried = {'row': self.row, **{name: shorten(self.params[name]) for name in sweep.space}, 'parameters': parameters}
        return {**tried, **cells, 'seeds': str(len(self.documents)), 'state': '; '.join(self.states)}


def make_tables(
    sweep: Sweep, records: Sequence[Mapping[str, Any]], baseline: Mapping[str, Any], data_root: Path | None
) -> dict[str, list[Row]]:
    """Return the rows of each table by its title: in the order of the file, the best points of a row first.

    The result of the per-position ``baseline``, if there is one, is a row of each table.
    """
    groups: dict[str, Group] = {}
    for record in records:
        group = groups.setdefault(json.dumps([record['row'], record['params']]), Group(record['row'], record['params'] or {}))
        group.documents |= {document['seed']: document for document in record['documents']}
        group.scores += [] if record['score'] is None else [record['score']]
        if record['state'] != 'complete':
            group.states[record['error'] or record['state']] = None

    def order(group: Group) -> tuple:
        return list(sweep.rows).index(group.row), not group.scores, -sweep.sign * statistics.mean(group.scores or [0])

    ordered = sorted(groups.values(), key=order)
    if sweep.single_tasks:
        return {'': gain_rows(sweep, ordered, read_gain_metrics(sweep, data_root))}
    tables = {}
    for title in dict.fromkeys(row.table for row in sweep.rows.values()):
        if own := [group for group in ordered if sweep.rows[group.row].table == title]:
            tables[title] = target_rows(sweep, own) if sweep.targets else score_rows(sweep, own, baseline)
    return tables


def score_rows(sweep: Sweep, groups: Sequence[Group], baseline: Mapping[str, Any]) -> list[Row]:
    """Return a row for each group: the scores that mean something, time and memory."""
    documents = [document for group in groups for document in group.documents.values()]
    measured = set().union(*(document['metrics'] for document in documents))
    names = titles_in(measured)
    if sweep.metric not in (None, *names):
        names = {sweep.metric: sweep.metric, **names}
    timed = bool(documents) and all(_last(document).get('train_cpu_seconds') for document in documents)

    def scores(metrics: Sequence[Mapping[str, float]]) -> Row:
        return {title: describe([own[name] for own in metrics if name in own]) for name, title in names.items()}

    rows = [{'row': BASELINE, 'parameters': '', **scores([baseline.get('metrics', {})])}] if baseline else []
    for group in groups:
        own = list(group.documents.values())
        seconds = [_last(document)['train_cpu_seconds'] if timed else document.get('seconds') for document in own]
        costs = {'processor seconds' if timed else 'seconds': describe(seconds)}
        costs['MiB'] = describe([document.get('memory') for document in own])
        rows.append(group.frame(sweep, {**scores(list(group.metrics.values())), **costs}))
    return rows


def target_rows(sweep: Sweep, groups: Sequence[Group]) -> list[Row]:
    """Return a row for each group: how many seeds reached the targets, and what it took them.

    The ratio is that of the first row's mean processor seconds to this one's. Seeds that did not reach the targets count with all
    that they trained, and make the means of their row lower bounds.
    """
    keys = {'iterations': 'iter', 'seconds': 'train_seconds', 'processor seconds': 'train_cpu_seconds'}
    rows, reference = [], None
    for group in groups:
        documents = list(group.documents.values())
        reached = [first_to_reach(document, sweep.targets) for document in documents]
        entries = [at or _last(document) for at, document in zip(reached, documents, strict=True)]
        complete = all(reached)
        cells = {title: describe([entry.get(key) for entry in entries]) for title, key in keys.items()}
        seconds = cells['processor seconds'] and cells['processor seconds']['mean']
        reference = reference or (seconds and (seconds, complete))
        ratio = ''
        # Of two bounds there is no ratio.
        if seconds and (complete or reference[1]):
            bound = {(True, False): 'more than ', (False, True): 'less than '}.get((complete, reference[1]), '')
            ratio = f'{bound}{reference[0] / seconds:.2f}'
        if not complete:
            cells = {title: cell and f'more than {cell["mean"]:.0f}' for title, cell in cells.items()}
        there = f'{sum(map(bool, reached))} of {len(documents)}'
        rows.append(group.frame(sweep, {'seeds that got there': there, **cells, 'times as fast': ratio}))
    return rows


def first_to_reach(document: Mapping[str, Any], targets: Mapping[str, float]) -> dict[str, Any] | None:
    """Return the first validation of a result that has reached all targets, None if none has."""
    for validation in document['validations']:
        if reaches({name: score for name, score in validation.items() if score is not None}, targets):
            return validation
    return None


def read_gain_metrics(sweep: Sweep, data_root: Path | None = None) -> tuple[dict[str, str], dict[str, dict[str, str]]]:
    """Return for each task its summary, and the rules of the scores that count: all of its label unless the file names some."""
    row = next(row for name, row in sweep.rows.items() if name not in sweep.single_tasks.values())
    config = sweep.load(row.config, {**sweep.options, **row.options}, data_root)
    labels, summaries, rules = offered_labels(config.val_dataloader.dataset), {}, {}
    for task in sweep.single_tasks:
        if task not in config.model.tasks:
            raise UserError(f'`single_tasks` of {sweep.path} names {task!r}, none of the tasks {", ".join(config.model.tasks)}.')
        label = config.model.tasks[task].get('label') or task
        scorer = build_labels(labels, [label])[label].scorer()
        summaries[task] = f'metrics_summary/{label}'
        rules[task] = {f'{scorer.prefix}/{name}': score.rule for name, score in scorer.listed.items()}
    return summaries, {**rules, **sweep.gain_metrics}


def gain_rows(sweep: Sweep, groups: Sequence[Group], metrics: tuple[Mapping[str, str], Rules]) -> list[Row]:
    """Return a row for the networks of one task together and one for each other row, at its best point, by falling delta_m.

    A row is compared with the networks of one task of the same seed, and ranked with the seeds that all rows have. The best point
    of a network of one task has the best mean change of its task against its first point, that of another row the best delta_m.
    What cannot be compared, such as a row without all the tasks, comes last.
    """
    summaries, rules = metrics
    # Results of an older version lack the scores that came after it.
    runs = [scores for group in groups for scores in group.metrics.values()]
    rules = {
        task: {name: rule for name, rule in each.items() if all(name in scores for scores in runs if summaries[task] in scores)}
        for task, each in rules.items()
    }
    titles = {name: title_of(name, name.split('/')[-1]) for name in summaries.values()}
    first, *_ = others = [name for name in sweep.rows if name not in sweep.single_tasks.values()]
    points = {name: [group for group in groups if group.row == name and group.documents] for name in sweep.rows}
    singles = {
        task: _best(points[row], points[row][0].metrics, {task: rules[task]})
        for task, row in sweep.single_tasks.items()
        if points[row]
    }
    shared = set.intersection(*(set(group.documents) for group in singles.values())) if len(singles) == len(rules) else set()
    baseline = {
        seed: {name: group.metrics[seed][name] for task, group in singles.items() for name in (summaries[task], *rules[task])}
        for seed in sorted(shared)
    }
    chosen = {name: best for name in others if (best := _best(points[name], baseline, rules))}
    if not chosen:
        raise UserError(f'There are no results of {", ".join(sweep.single_tasks.values())} and another row with one seed yet.')
    scores = {name: {seed: own for seed, own in group.metrics.items() if seed in baseline} for name, group in chosen.items()}
    gains = {name: {seed: delta_m(own, baseline[seed], rules) for seed, own in runs.items()} for name, runs in scores.items()}
    ranked = [seed for seed in baseline if all(seed in runs for runs in scores.values())]
    ranks = [mean_ranks({name: runs[seed] for name, runs in scores.items()}, rules) for seed in ranked]

    def row(name: str, groups: Mapping[str, Group], runs: Mapping[int, Mapping[str, float]], cells: Row) -> Row:
        own = {title: describe([scores.get(key) for scores in runs.values()], interval=True) for key, title in titles.items()}
        at = {
            key: ', '.join(f'{task} {shorten(group.params[key])}'.strip() for task, group in groups.items())
            for key in sweep.space
        }
        return {'row': name, **at, **own, **cells, **_network_costs(list(groups.values()), list(runs))}

    nothing = dict.fromkeys([*(f'{task} %' for task in rules), 'delta_m %', f'against {first}', 'mean rank'], '')
    rows = [row(SINGLE, singles, baseline, {**nothing, 'delta_m %': '0'})]
    for name, group in chosen.items():
        changes = [relative_changes(own, baseline[seed], rules) for seed, own in scores[name].items()]
        against = [
            gain - gains[first][seed] for seed, gain in gains[name].items() if name != first and seed in gains.get(first, ())
        ]
        cells = {
            **{f'{task} %': [change[task] for change in changes] for task in rules},
            'delta_m %': list(gains[name].values()),
            f'against {first}': against,
            'mean rank': [rank[name] for rank in ranks],
        }
        rows.append(row(name, {'': group}, scores[name], {title: describe(own, interval=True) for title, own in cells.items()}))
    rows.sort(key=lambda each: 0.0 if each['row'] == SINGLE else -each['delta_m %']['mean'])
    lacking = [points[name][0] for name in others if points[name] and name not in chosen]
    return rows + [row(group.row, {'': group}, group.metrics, nothing) for group in lacking]


def _best(groups: Sequence[Group], baseline: Mapping[int, Mapping[str, float]], rules: Rules) -> Group | None:
    """Return the group with the best mean delta_m over the seeds of the baseline; None if none has all tasks."""
    gains = {}
    names = {name for metrics in rules.values() for name in metrics}
    for place, group in enumerate(groups):
        compared = {seed: scores for seed, scores in group.metrics.items() if seed in baseline and names <= scores.keys()}
        own = [delta_m(scores, baseline[seed], rules) for seed, scores in compared.items()]
        if own:
            gains[place] = statistics.fmean(own)
    return groups[max(gains, key=gains.get)] if gains else None


def _network_costs(networks: Sequence[Group], seeds: Sequence[int]) -> Row:
    """Return the costs of networks trained one after another: parameters and seconds in sum, memory of the largest.

    Seconds and memory are those of seeds on the device of the first one.
    """
    runs = [[group.documents[seed] for group in networks] for seed in seeds]
    alike = [own for own in runs if all(document['device'] == runs[0][0]['device'] for document in own)]
    steps = [[document.get('step_seconds') for document in own] for own in alike]
    return {
        'ms per step': describe([1000 * sum(step) for step in steps if None not in step], interval=True),
        'MiB': describe([max(document['memory'] for document in own) for own in alike], interval=True),
        'parameters': f'{sum(document["parameters"] for document in runs[0]):,}',
        'seeds': str(len(seeds)),
    }


def describe(values: Sequence[float | None], interval: bool = False) -> Row | None:
    """Return mean, spread and values: the standard deviation, or the half width of the 95 % interval of the mean.

    None if there is no value or one is missing; the spread of a single value is None.
    """
    if not values or None in values:
        return None
    spread = None
    if len(values) > 1:
        spread = mean_and_interval(values)[1] if interval else statistics.stdev(values)
    return dict(mean=statistics.fmean(values), spread=spread, values=list(values))


def to_table(rows: Sequence[Row]) -> Table:
    """Return the rows as texts; a column without any is left out."""
    titles = [title for title in dict.fromkeys(title for row in rows for title in row) if any(row.get(title) for row in rows)]
    return Table(titles, [[_text(title, row.get(title)) for title in titles] for row in rows])


def _text(title: str, value: Row | str | None) -> str:
    if not isinstance(value, dict):
        return value or ''
    form = '.0f' if title in WHOLE else '.2f'
    sign = '+' if title.endswith('%') or title.startswith('against ') else ''
    return f'{value["mean"]:{sign}{form}}' + ('' if value['spread'] is None else f' ± {value["spread"]:{form}}')


def _last(document: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the last validation of a result, empty for one without their list."""
    return (document.get('validations') or [{}])[-1]
