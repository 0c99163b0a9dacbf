"""Groups of runs that differ in their seed only: a row of a table, a curve."""

import contextlib
import json
import re
import statistics
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mtl_plugins.errors import CorruptFileError
from mtl_plugins.evaluation.scores import SUMMARY_MULTITASK, TASK_SUMMARIES, TITLED
from mtl_plugins.lab.runs.query import differing_keys, headings, rule_for
from mtl_plugins.lab.runs.work_dirs import RunRecord
from mtl_plugins.lab.tables import Table
from mtl_plugins.utils.data_files import is_text, printable, read_json

# Of the file of a sweep.
_TRIALS = dict(trials=[dict(label=is_text, folders=[is_text])])
_SEED = re.compile(r'[_-]seed[_-]?\d+$')


@dataclass(frozen=True)
class RunGroup:
    """The runs of one name, in the order of their seeds."""

    name: str
    runs: list[RunRecord]

    def values(self, key: str) -> list[float]:
        """Return the numbers at a key, see :meth:`RunRecord.get`, of the runs that have it."""
        return [value for run in self.runs if (value := run.number(key)) is not None]

    def scores(self, metric: str) -> list[float]:
        """Return a metric of the best validation of each run that has it."""
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
    """Group runs whose folders differ in ``_seed<number>`` only, in the order of the first runs.

    Trials of a sweep are called by what they tried. Folders of one name in several places keep the place in their name.
    """
    names: dict[str, list[RunRecord]] = {}
    own = {run.path: printable(_SEED.sub('', run.path.absolute().name)) for run in runs}
    places = {(own[run.path], run.path.absolute().parent) for run in runs}
    ambiguous = {name for name, count in Counter(name for name, _ in places).items() if count > 1}
    tried: dict[Path, str] = {}
    for folder in {run.path.parent.parent for run in runs if run.path.parent.name == 'trials'}:
        # Without a usable file of the sweep they are called as their folders.
        with contextlib.suppress(CorruptFileError):
            for trial in read_json(folder / 'trials.json', "list of a sweep's trials", _TRIALS).get('trials') or ():
                tried |= {folder / path: printable(trial['label']) for path in trial.get('folders') or () if trial.get('label')}
    for run in runs:
        parent, name = printable(run.path.absolute().parent.name), own[run.path]
        names.setdefault(tried.get(run.path, f'{parent}/{name}' if name in ambiguous else name), []).append(run)
    return [RunGroup(name, sorted(own, key=lambda run: run.number('seed') or 0)) for name, own in names.items()]


def metrics_of(groups: Sequence[RunGroup]) -> dict[str, str]:
    """Return the summaries of the groups with their titles; without any, the scores that chose their best checkpoints."""
    known = {name: title for name, title in TITLED.items() if any(has_metric(group, name) for group in groups)}
    monitored = dict.fromkeys((run.data.get('best') or {}).get('monitor') for group in groups for run in group.runs)
    return known or {name: name for name in monitored if name and any(has_metric(group, name) for group in groups)}


def lower_is_better(groups: Sequence[RunGroup], metric: str) -> bool:
    """Return True for errors."""
    return rule_for([run for group in groups for run in group.runs], metric) == 'less'


def has_metric(group: RunGroup, metric: str) -> bool:
    """Return True if a group has a metric; the common score, 0 by definition without, needs all that it sums up."""
    needed = (metric, *TASK_SUMMARIES) if metric == SUMMARY_MULTITASK else (metric,)
    return all(group.scores(name) for name in needed)


def ladder_table(groups: Sequence[RunGroup]) -> Table:
    """Tabulate the groups: mean and standard deviation over seeds, and the change from the row above."""
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
    columns['power (W)'] = [_cell(group.values('power_watts'), digits=0) for group in groups]
    columns = {title: cells for title, cells in columns.items() if any(cells)}
    return Table(list(columns), [list(row) for row in zip(*columns.values(), strict=True)])


def _cell(values: Sequence[float], scale: float = 1, digits: int = 2, spread: bool = False) -> str:
    if not values:
        return ''
    mean = f'{scale * statistics.mean(values):.{digits}f}'
    return f'{mean} ± {scale * statistics.stdev(values):.{digits}f}' if spread and len(values) > 1 else mean


def config_table(groups: Sequence[RunGroup]) -> Table:
    """Tabulate the config keys in which the first runs of the groups differ, a column for each group."""
    runs = [group.runs[0] for group in groups]
    keys = differing_keys(runs)
    cells = [[heading, *(_text(run.get(key)) for run in runs)] for key, heading in zip(keys, headings(keys, runs), strict=True)]
    return Table(['key', *(group.name for group in groups)], cells)


def _text(value) -> str:
    return '' if value is None else json.dumps(value) if isinstance(value, (list, dict)) else str(value)


def provenance_table(groups: Sequence[RunGroup]) -> Table:
    """Tabulate the code, data, device, versions and time of each run."""
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
            started = str(run.data.get('started') or '')[:16].replace('T', ' ')
            rows.append([*texts, machine, str(versions.get('torch', '')), started])
    return Table(['row', 'seed', 'state', 'commit', 'config', 'data', 'device', 'torch', 'started (UTC)'], rows)
