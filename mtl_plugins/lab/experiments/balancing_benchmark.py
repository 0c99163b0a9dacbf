"""Strategies of task balancing against networks of one task: matched trainings, then delta_m, ranks and costs over seeds."""

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from mmengine.config import Config

from mtl_plugins.config.load import load_config, offered_labels
from mtl_plugins.errors import ConfigError, UserError
from mtl_plugins.evaluation.functional.task_gains import (
    delta_m,
    mean_and_interval,
    mean_ranks,
    relative_changes,
)
from mtl_plugins.lab.experiments.ablation import read_plan, run_all
from mtl_plugins.lab.experiments.definition import find_config, shorten
from mtl_plugins.lab.report.resources import CostPoint
from mtl_plugins.lab.runs.tables import RunTable, to_markdown
from mtl_plugins.labels.presets import build_labels
from mtl_plugins.utils.data_files import ANY, is_number, is_text, read_json
from mtl_plugins.utils.score_names import SUMMARY_TITLES

ENTRIES = ('about', 'data', 'seeds', 'amp', 'common', 'config', 'strategies')
EXAMPLE = 'docs/task_balancing/plan.json'
SINGLE = 'a network per task'
INTERVAL = 'mean and 95 % t-interval of the mean over seeds'


def read_benchmark_plan(path: Path) -> dict:
    """The plan. ``about``, ``data``, ``seeds``, ``amp`` and ``common`` are those of :func:`read_plan`, and further

    * ``config``: Of the network of all tasks.
    * ``strategies``: By name the path of a config file with ``task_balancing``, or a dict for that key. The others are compared
      with the first one.
    * ``baselines``: Config and options of the network of a task, where it is not to be that of ``config`` with this task alone.
    * ``metrics``: For each task columns of ``metrics.csv``, each ``'greater'`` or ``'less'``; by default all scores of its label
      that are no class's.
    * ``tune``: ``key`` and ``values`` of an option that every row, networks of one task included, tries with the first seed.

    Raises:
        ConfigError: If the file is missing, is no JSON, or lacks one of those that are not optional.
    """
    plan = read_plan(path, ENTRIES, EXAMPLE)
    if not plan['strategies'] or not plan['seeds']:
        raise ConfigError(f'The plan {path} should hold a strategy and a seed. Found none.')
    tune = plan.get('tune')
    if tune is not None and not (tune.keys() == {'key', 'values'} and tune['values']):
        raise ConfigError(f'`tune` of the plan {path} should be a `key` and its `values`. Found {tune}.')
    return plan


class BalancingBenchmark:
    """The trainings of a plan and what comes of them.

    Args:
        plan: As :func:`read_benchmark_plan` gives it.
        results: Folder of the JSON files, one per training.
        data_root: As for :func:`load_config`, for data that describe their own labels.

    Attributes:
        baselines: The row of the network of each task, by task.
        rows: All rows, with config and options, by name; those of the baselines first.

    Raises:
        ConfigError: If a config cannot be read, a strategy is none, names of rows are alike, or ``metrics`` names other tasks.
    """

    def __init__(self, plan: Mapping[str, Any], results: Path, data_root: Path | None = None) -> None:
        self.plan, self.results, self.data_root = plan, results, data_root
        self.config = load_config(find_config(plan['config']), dict(plan['common']), data_root and str(data_root))
        self.tasks = self.config.model.tasks.to_dict()
        self.baselines = {task: f'{task} alone' for task in self.tasks}
        self.rows = {name: self._baseline(task) for task, name in self.baselines.items()}
        for name, strategy in plan['strategies'].items():
            self._add(name, dict(config=plan['config'], options={'model.task_balancing': read_strategy(strategy)}))
        unknown = {*plan.get('baselines', ()), *plan.get('metrics', ())} - self.tasks.keys()
        if unknown:
            raise ConfigError(f'The plan should name tasks out of {list(self.tasks)}. Found {sorted(unknown)[0]!r}.')

    def _baseline(self, task: str) -> dict[str, Any]:
        """The same network with one task; its loss is the total."""
        options = {
            'model.tasks': {'_delete_': True, task: self.tasks[task]},
            'model.task_balancing': dict(_delete_=True, type='FixedWeights'),
        }
        return self.plan.get('baselines', {}).get(task) or dict(config=self.plan['config'], options=options)

    def _add(self, name: str, row: dict[str, Any]) -> None:
        def letters(text: str) -> str:
            return ''.join(letter for letter in text if letter.isalnum())

        alike = [other for other in (*self.rows, SINGLE) if letters(other) == letters(name)]
        if alike:
            raise ConfigError(f'The names of strategies should differ by a letter or digit. Found {name!r} beside {alike[0]!r}.')
        self.rows[name] = row

    @cached_property
    def rules(self) -> dict[str, dict[str, str]]:
        """For each task the metrics that count, and which of two values is the better."""
        configs = offered_labels(self.config.val_dataloader.dataset)
        rules = {}
        for task, settings in self.tasks.items():
            label = settings.get('label') or task
            scorer = build_labels(configs, [label])[label].scorer()
            rules[task] = {f'{scorer.prefix}/{name}': rule for name, rule in scorer.rules.items()}
        return {**rules, **self.plan.get('metrics', {})}

    def candidates(self, name: str) -> dict[Any, tuple[str, dict[str, Any]]]:
        """Name and row for each value that is tried for a row; for None the row itself if none is."""
        tune, row = self.plan.get('tune'), self.rows[name]
        if tune is None:
            return {None: (name, row)}
        rows = {}
        for value in tune['values']:
            options = {**row.get('options', {}), tune['key']: value}
            rows[value] = (f'{name}, {tune["key"].split(".")[-1]} {shorten(value)}', {**row, 'options': options})
        return rows

    def trainings(self, rows: Mapping[str, dict[str, Any]], seeds: Sequence[int]) -> dict[str, Any]:
        """The plan of an ablation with these rows."""
        shared = {key: self.plan[key] for key in ('about', 'data', 'amp', 'common')}
        return dict(shared, seeds=list(seeds), tables=[dict(title='Rows', rows=dict(rows))])

    def run(self, work_dir: Path, jobs: int) -> None:
        """Train what has no result yet: first what tuning needs, then each row, as tuned, with all seeds.

        Raises:
            UserError: If a training fails, after the others have ended.
        """
        errors = []

        def train(rows: dict[str, dict[str, Any]], seeds: Sequence[int]) -> None:
            try:
                run_all(self.trainings(rows, seeds), self.results, work_dir, self.data_root, jobs)
            except UserError as error:
                errors.append(str(error))

        if self.plan.get('tune'):
            train(dict(entry for name in self.rows for entry in self.candidates(name).values()), self.plan['seeds'][:1])
        documents = self.documents()
        tuned = {name: self.tuned(name, documents) for name in self.rows}
        chosen = {name: value for name, (value, found) in tuned.items() if found or not self.plan.get('tune')}
        train(dict(self.candidates(name)[value] for name, value in chosen.items()), self.plan['seeds'])
        if errors:
            raise UserError(' '.join(errors))

    def documents(self) -> dict[str, dict[int, dict[str, Any]]]:
        """The results by row, tuned values among its name, and seed."""
        documents: dict[str, dict[int, dict[str, Any]]] = {}
        for path in sorted(self.results.glob('*.json')):
            document = read_json(path, 'result', dict(row=is_text, seed=is_number, metrics={ANY: is_number}))
            documents.setdefault(document['row'], {})[document['seed']] = document
        return documents

    def tuned(self, name: str, documents: Mapping[str, Mapping[int, dict]]) -> tuple[Any, dict[int, dict]]:
        """The value that a row takes, and its results by seed.

        With the first seed, the network of a task has the best mean change of its task against the first value, and a strategy
        the best delta_m, of those that came to an end.
        """
        first, found = self.plan['seeds'][0], {}
        for value, (row, _) in self.candidates(name).items():
            if row in documents and (first in documents[row] or value is None):
                found[value] = dict(documents[row])
        if None in found or len(found) < 2:
            return next(iter(found.items()), (None, {}))
        own = [task for task, row in self.baselines.items() if row == name]
        rules = {task: self.rules[task] for task in own} or self.rules
        if own:
            baseline = next(iter(found.values()))[first]['metrics']
        else:
            baseline = self.baseline_scores(documents).get(first)
            if baseline is None:
                return None, {}
        best = max(found, key=lambda value: delta_m(found[value][first]['metrics'], baseline, rules))
        return best, found[best]

    def baseline_scores(self, documents: Mapping[str, Mapping[int, dict]]) -> dict[int, dict[str, float]]:
        """The scores of the networks of one task, together, for each seed that all of them have."""
        runs = {task: self.tuned(row, documents)[1] for task, row in self.baselines.items()}
        scores = {}
        for seed in self.plan['seeds']:
            if all(seed in own for own in runs.values()):
                scores[seed] = {
                    column: runs[task][seed]['metrics'][column] for task in self.tasks for column in self._columns(task)
                }
        return scores

    def _columns(self, task: str) -> list[str]:
        label = self.tasks[task].get('label') or task
        return [f'metrics_summary/{label}', *self.rules[task]]

    def summarise(self) -> dict[str, Any]:
        """What the results say, as numbers: scores, changes, delta_m, mean rank and costs of each row, with intervals over seeds.

        A strategy is compared with the networks of one task of the same seed, and ranked with seeds that all strategies have.

        Raises:
            UserError: If a network of one task, or every strategy, has no result.
        """
        documents = self.documents()
        baseline = self.baseline_scores(documents)
        tuned = {name: self.tuned(name, documents) for name in self.plan['strategies']}
        tuned = {name: (value, {seed: runs[seed] for seed in baseline if seed in runs}) for name, (value, runs) in tuned.items()}
        tuned = {name: (value, runs) for name, (value, runs) in tuned.items() if runs}
        if not tuned:
            raise UserError(
                f'{self.results} should hold results of {", ".join(self.baselines.values())} and of a strategy with the same '
                'seed. Found none: run the plan first.'
            )
        shared = [seed for seed in baseline if all(seed in runs for _, runs in tuned.values())]
        ranks = [mean_ranks({name: runs[seed]['metrics'] for name, (_, runs) in tuned.items()}, self.rules) for seed in shared]
        first = tuned.get(next(iter(self.plan['strategies'])), (None, {}))[1]
        rows = [self._single(documents, baseline)]
        for name, (value, runs) in tuned.items():
            metrics = {seed: run['metrics'] for seed, run in runs.items()}
            gains = {seed: delta_m(scores, baseline[seed], self.rules) for seed, scores in metrics.items()}
            changes = [relative_changes(scores, baseline[seed], self.rules) for seed, scores in metrics.items()]
            against = [
                gain - delta_m(first[seed]['metrics'], baseline[seed], self.rules)
                for seed, gain in gains.items()
                if seed in first
            ]
            row = dict(
                name=name,
                tuned=value,
                seeds=list(runs),
                scores={c: _describe([scores[c] for scores in metrics.values()]) for t in self.tasks for c in self._columns(t)},
                changes={task: _describe([change[task] for change in changes]) for task in self.tasks},
                delta_m=_describe(list(gains.values())),
                against_first=_describe(against) if runs is not first else None,
                mean_rank=_describe([rank[name] for rank in ranks]),
                **_costs([runs]),
            )
            rows.append(row)
        used = [
            run for row in (self.baselines.values(), tuned) for name in row for run in self.tuned(name, documents)[1].values()
        ]
        return dict(
            schema_version=1,
            about=self.plan['about'],
            spread=INTERVAL,
            metrics=self.rules,
            tune=self.plan.get('tune'),
            runs=len(used),
            commits=sorted({run['commit'] for run in used if run['commit']}),
            dates=sorted({run['date'][:10] for run in used}),
            devices=list(dict.fromkeys(run['device'] for run in sorted(used, key=lambda run: run['seed']))),
            torch=sorted({run['versions']['torch'] for run in used}),
            rows=rows,
        )

    def _single(self, documents: Mapping[str, Mapping[int, dict]], baseline: Mapping[int, Mapping[str, float]]) -> dict[str, Any]:
        tuned = {task: self.tuned(row, documents) for task, row in self.baselines.items()}
        return dict(
            name=SINGLE,
            tuned={task: value for task, (value, _) in tuned.items()} if self.plan.get('tune') else None,
            seeds=list(baseline),
            scores={c: _describe([scores[c] for scores in baseline.values()]) for t in self.tasks for c in self._columns(t)},
            changes={task: _describe([0.0]) for task in self.tasks},
            delta_m=_describe([0.0]),
            against_first=None,
            mean_rank=None,
            **_costs([{seed: runs[seed] for seed in baseline} for _, runs in tuned.values()]),
        )


def read_strategy(strategy: str | Mapping[str, Any]) -> dict[str, Any]:
    """The option that sets a strategy: of a config file with ``task_balancing``, or as given.

    Raises:
        ConfigError: If there is no such file, or it sets no such key.
    """
    if isinstance(strategy, str):
        try:
            balancing = Config.fromfile(find_config(strategy)).get('task_balancing')
        except (OSError, SyntaxError, NameError, KeyError, TypeError) as error:
            raise ConfigError(f'The strategy {strategy} cannot be read: {type(error).__name__}: {error}') from error
        if balancing is None:
            raise ConfigError(f'The strategy {strategy} should set `task_balancing`. Found no such key.')
        strategy = balancing.to_dict()
    return {'_delete_': True, **strategy}


def _describe(values: Sequence[float]) -> dict[str, Any] | None:
    if not values:
        return None
    mean, half_width = mean_and_interval(values)
    return dict(mean=mean, half_width=half_width, values=list(values))


def _costs(networks: Sequence[Mapping[int, dict[str, Any]]]) -> dict[str, Any]:
    """Of networks that are trained one after another: parameters and seconds in sum, memory of the largest.

    Seconds and memory are those of seeds on the device of the first one.
    """
    parameters = sum(next(iter(runs.values()))['parameters'] for runs in networks)
    device = next(iter(networks[0].values()))['device']
    seeds = [seed for seed in networks[0] if all(runs[seed]['device'] == device for runs in networks)]
    steps = [[runs[seed].get('step_seconds') for runs in networks] for seed in seeds]
    return dict(
        parameters=parameters,
        step_seconds=_describe([sum(step) for step in steps if None not in step]),
        memory_mib=_describe([max(runs[seed]['memory'] for runs in networks) for seed in seeds]),
    )


def summary_in_markdown(summary: Mapping[str, Any]) -> str:
    """The table of :meth:`BalancingBenchmark.summarise`, best delta_m first, and where the numbers are from."""
    rows = sorted(summary['rows'], key=lambda row: -row['delta_m']['mean'])
    columns = [column for column in rows[0]['scores'] if column.startswith('metrics_summary/')]
    tasks = list(summary['metrics'])
    first = next(row['name'] for row in summary['rows'] if row['name'] != SINGLE)
    titles = [
        *(SUMMARY_TITLES.get(column, column.split('/')[-1]) for column in columns),
        *(f'{task} %' for task in tasks),
        'delta_m %',
        f'against {first}',
        'mean rank',
        'ms per step',
        'MiB',
        'parameters',
        'seeds',
    ]
    if summary['tune']:
        titles.append(summary['tune']['key'].split('.')[-1])
    cells = []
    for row in rows:
        single = row['name'] == SINGLE
        step = row['step_seconds'] and {
            key: 1000 * row['step_seconds'][key] for key in ('mean', 'half_width') if row['step_seconds'][key]
        }
        cells.append(
            [
                row['name'],
                *(_text(row['scores'][column]) for column in columns),
                *('' if single else _text(row['changes'][task], '+.2f') for task in tasks),
                '0' if single else _text(row['delta_m'], '+.2f'),
                _text(row['against_first'], '+.2f'),
                _text(row['mean_rank']),
                _text(step, '.0f'),
                _text(row['memory_mib'], '.0f'),
                f'{row["parameters"]:,}',
                str(len(row['seeds'])),
                *([_tuned(row['tuned'])] if summary['tune'] else []),
            ]
        )
    table = to_markdown(RunTable(['row', *titles], ['row', *titles], cells))
    costs = f' Steps and memory are those on {summary["devices"][0]}.' if len(summary['devices']) > 1 else ''
    return (
        f'{table}\n{summary["runs"]} runs; commit {", ".join(commit[:7] for commit in summary["commits"])}; '
        f'{summary["dates"][0]} to {summary["dates"][-1]}; {", ".join(summary["devices"])}; torch {", ".join(summary["torch"])}. '
        f'Last epoch, validation split; {summary["spread"]}.{costs}\n'
    )


def points_of(summary: Mapping[str, Any]) -> list[CostPoint]:
    """A point for each row whose step was timed: milliseconds and delta_m, means over seeds."""
    return [
        CostPoint(row['name'], 1000 * row['step_seconds']['mean'], row['delta_m']['mean'])
        for row in summary['rows']
        if row['step_seconds']
    ]


def _text(described: Mapping[str, Any] | None, form: str = '.2f') -> str:
    if not described:
        return ''
    spread = described.get('half_width')
    return f'{described["mean"]:{form}}' + (f' ± {spread:{form.removeprefix("+")}}' if spread is not None else '')


def _tuned(value: Any) -> str:
    return ', '.join(f'{task} {shorten(own)}' for task, own in value.items()) if isinstance(value, Mapping) else shorten(value)
