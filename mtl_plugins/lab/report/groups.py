"""Runs by row: those that differ in their seed only are one row of a table and one curve."""

import contextlib
import json
import re
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mtl_plugins.errors import CorruptFileError
from mtl_plugins.evaluation.scores import SUMMARY_MULTITASK, TASK_SUMMARIES, TITLED, rule_of
from mtl_plugins.lab.runs.query import differing_keys, headings
from mtl_plugins.lab.tables import Table
from mtl_plugins.records.record import RunRecord
from mtl_plugins.utils.data_files import parse_json, printable, read_bytes, shorten

TRIALS_NAME = 'trials.json'
_SEED = re.compile(r'[_-]seed[_-]?\d+$')


@dataclass(frozen=True)
class RunGroup:
    """The runs of one name, in the order of their seeds."""

    name: str
    runs: list[RunRecord]

    def values(self, key: str) -> list[float]:
        """What the runs know of a key, see :meth:`RunRecord.get`."""
        return [value for run in self.runs if (value := run.number(key)) is not None]

    def scores(self, metric: str) -> list[float]:
        """A metric of the best validation of each run that has it."""
        return [run.scores[metric] for run in self.runs if run.scores.get(metric) is not None]

    def mean(self, metric: str) -> float | None:
        return statistics.mean(self.scores(metric)) if self.scores(metric) else None

    @property
    def representative(self) -> RunRecord | None:
        """The run of the lowest seed that still has a checkpoint, and a model that predicts labels."""
        if not (self.runs[0].config.get('model') or {}).get('tasks'):
            return None
        return next((run for run in self.runs if run.checkpoint('best') or run.checkpoint('last')), None)


def group_runs(runs: Sequence[RunRecord]) -> list[RunGroup]:
    """The groups, in the order of their first runs: runs whose folders differ in ``_seed<number>`` only.

    Trials of a sweep are called by what they tried. Folders of one name in several places keep the place in their name.
    """
    names: dict[str, list[RunRecord]] = {}
    places = {run.path: printable(_SEED.sub('', run.path.absolute().name)) for run in runs}
    parents: dict[str, set] = {}
    for run in runs:
        parents.setdefault(places[run.path], set()).add(run.path.absolute().parent)
    tried = _trial_names(runs)
    for run in runs:
        name = places[run.path]
        if len(parents[name]) > 1:
            name = f'{printable(run.path.absolute().parent.name)}/{name}'
        names.setdefault(tried.get(run.path, name), []).append(run)
    return [RunGroup(name, sorted(own, key=lambda run: run.number('seed') or 0)) for name, own in names.items()]


def _trial_names(runs: Sequence[RunRecord]) -> dict:
    """What the trials of sweeps among the runs tried."""
    names = {}
    for folder in {run.path.parent.parent for run in runs if run.path.parent.name == 'trials'}:
        # Without a usable file of the sweep they are called as their folders.
        with contextlib.suppress(OSError, CorruptFileError):
            for trial in read_trials(folder)['trials']:
                names |= {folder / path: printable(trial['label']) for path in trial['folders']}
    return names


def read_trials(folder: Path) -> dict:
    """Return what ``trials.json`` in the folder of a sweep says.

    Raises:
        OSError: If there is none.
        CorruptFileError: If it is something else than a sweep writes.
    """
    path = folder / TRIALS_NAME
    data = read_bytes(path)
    try:
        document = parse_json(data)
        fit = isinstance(document['metric'], str) and isinstance(document['sweep'], str)
        for trial in document['trials']:
            numbers = [trial[key] for key in ('score', 'seconds', 'memory', 'parameters') if trial[key] is not None]
            fit &= all(isinstance(number, (int, float)) for number in numbers) and isinstance(trial['params'], dict)
            fit &= isinstance(trial['folders'], list) and all(isinstance(name, str) for name in trial['folders'])
            fit &= all(isinstance(trial[key], str) for key in ('state', 'label')) and isinstance(
                trial['error'], (str, type(None))
            )
            fit &= 'number' in trial
    except (ValueError, KeyError, TypeError) as error:
        raise CorruptFileError(f"'{path}' is not the list of a sweep's trials ({shorten(error)}).") from error
    if not fit:
        raise CorruptFileError(f"'{path}' is not the list of a sweep's trials: an entry has another type.")
    return document


def metrics_of(groups: Sequence[RunGroup]) -> dict[str, str]:
    """The summaries that the groups have, with what people call them; without any, the scores that chose their best checkpoints.

    The common score only where a run has all that it sums up: it is 0 by definition for the others.
    """
    known = {name: title for name, title in TITLED.items() if any(has_metric(group, name) for group in groups)}
    monitored = dict.fromkeys((run.data.get('best') or {}).get('monitor') for group in groups for run in group.runs)
    return known or {name: name for name in monitored if name and any(has_metric(group, name) for group in groups)}


def lower_is_better(groups: Sequence[RunGroup], metric: str) -> bool:
    """For a metric of :func:`metrics_of`."""
    bests = [run.data.get('best') or {} for group in groups for run in group.runs]
    rules = {best.get('monitor'): best.get('rule') for best in bests}
    return (rule_of(metric) or rules.get(metric)) == 'less'


def has_metric(group: RunGroup, metric: str) -> bool:
    """Whether a metric of a group says something, see :func:`metrics_of`."""
    needed = (metric, *TASK_SUMMARIES) if metric == SUMMARY_MULTITASK else (metric,)
    return all(group.scores(name) for name in needed)


def ladder_table(groups: Sequence[RunGroup]) -> Table:
    """A row for each group: mean and standard deviation over seeds, and the change from the row above."""
    metrics = metrics_of(groups)
    columns: dict[str, list[str]] = {'row': [group.name for group in groups], 'seeds': [str(len(group.runs)) for group in groups]}
    columns['parameters (M)'] = [_cell(group.values('parameters'), 1e-6) for group in groups]
    for name, title in metrics.items():
        own = [group.scores(name) if has_metric(group, name) else [] for group in groups]
        columns[f'{title} {"↓" if lower_is_better(groups, name) else "↑"}'] = [_cell(values, spread=True) for values in own]
        above: list[list[float]] = [[], *own[:-1]]
        columns[f'Δ {title}'] = [
            f'{statistics.mean(values) - statistics.mean(before):+.2f}' if values and before else ''
            for values, before in zip(own, above, strict=True)
        ]
    columns['epoch (s)'] = [_cell(group.values('epoch_seconds'), digits=1) for group in groups]
    columns['memory (MiB)'] = [_cell(group.values('memory_mib'), digits=0) for group in groups]
    columns = {title: cells for title, cells in columns.items() if any(cells)}
    return Table(list(columns), [list(row) for row in zip(*columns.values(), strict=True)])


def _cell(values: Sequence[float], scale: float = 1, digits: int = 2, spread: bool = False) -> str:
    if not values:
        return ''
    mean = f'{scale * statistics.mean(values):.{digits}f}'
    return f'{mean} ± {scale * statistics.stdev(values):.{digits}f}' if spread and len(values) > 1 else mean


def config_table(groups: Sequence[RunGroup]) -> Table:
    """A row for each config key in which the first runs of the groups differ, a column for each group."""
    runs = [group.runs[0] for group in groups]
    keys = differing_keys(runs)
    cells = [[heading, *(_text(run.get(key)) for run in runs)] for key, heading in zip(keys, headings(keys), strict=True)]
    return Table(['key', *(group.name for group in groups)], cells)


def _text(value) -> str:
    return '' if value is None else json.dumps(value) if isinstance(value, (list, dict)) else str(value)


def provenance_table(groups: Sequence[RunGroup]) -> Table:
    """Where each run comes from: code, data, device, versions and time."""
    rows = []
    for group in groups:
        for run in group.runs:
            code, device, data = (run.data.get(key) or {} for key in ('code', 'device', 'data'))
            commit = (code.get('commit') or '')[:7] + ('' if code.get('clean', True) in (True, None) else ' + changes')
            prints = ', '.join(f'{split} {(entry.get("fingerprint") or "")[:8]}' for split, entry in data.items())
            processes = f'{device.get("processes", 1)} x ' if device.get('processes', 1) != 1 else ''
            threads = f', {device["threads"]} thread{"s" * (device["threads"] != 1)}' if device.get('threads') else ''
            versions = run.data.get('versions') or {}
            texts = (group.name, _text(run.get('seed')), run.state, commit, str(run.data.get('config_hash') or ''), prints)
            machine = f'{processes}{device.get("name", "")}{threads}'
            rows.append(
                [*texts, machine, str(versions.get('torch', '')), str(run.data.get('started') or '')[:16].replace('T', ' ')]
            )
    return Table(['row', 'seed', 'state', 'commit', 'config', 'data', 'device', 'torch', 'started (UTC)'], rows)
