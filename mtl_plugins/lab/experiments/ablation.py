"""Rows of configs with one budget: the trainings of a plan, a JSON file for each, a table with mean and spread."""

import datetime
import hashlib
import statistics
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mtl_plugins.errors import ConfigError, UserError
from mtl_plugins.evaluation.position_baseline import fit_position_baseline, score_position_baseline
from mtl_plugins.lab.experiments.definition import GRID, find_config
from mtl_plugins.lab.experiments.launch import provenance, read_result, write_document
from mtl_plugins.lab.experiments.run import Point, Run
from mtl_plugins.lab.experiments.study import SharedStudy
from mtl_plugins.lab.experiments.workers import run_trials, slots
from mtl_plugins.utils.data_files import ANY, is_flag, is_number, is_text, read_json, refuse_types
from mtl_plugins.utils.files import make_folder
from mtl_plugins.utils.score_names import SUMMARY_TITLES

COLUMNS = {title: name for name, title in SUMMARY_TITLES.items()}
_RUN = dict(config=is_text, options={}, seeds=[is_number])
_FORM = dict(
    about=is_text,
    data={},
    seeds=[is_number],
    amp=is_flag,
    common={},
    metric=is_text,
    baseline=is_flag,
    config=is_text,
    strategies={},
    baselines={ANY: _RUN},
    tables=[dict(title=is_text, rows={ANY: _RUN})],
)
_RESULT = dict(row=is_text, metrics={ANY: is_number}, validations=[{}], date=is_text, commit=is_text, device=is_text)
ENTRIES = ('about', 'data', 'seeds', 'amp', 'common', 'tables')
BASELINE, BASELINE_FILE = 'per-position baseline', 'per-position-baseline.json'


@dataclass(frozen=True)
class PlannedTrials:
    """The rows of a plan as the engine of sweeps takes them: a trial for each row and seed, which its result file ends."""

    plan: dict[str, Any]
    results: Path
    work_dir: Path
    sampler = dict(type=GRID)
    pruner = None
    is_grid = True
    trials = None
    direction = 'maximize'

    @property
    def definition(self) -> dict[str, Any]:
        """Rows come and go; a training whose options have changed begins anew."""
        return dict(about=self.plan['about'])

    @property
    def metric(self) -> str:
        """What the journal says; the table shows the scores of the results."""
        return self.plan.get('metric', COLUMNS['multitask'])

    @property
    def data(self) -> dict[str, Any]:
        return self.plan['data']

    @property
    def amp(self) -> bool:
        return self.plan['amp']

    def all_runs(self) -> list[Run]:
        """All trainings, seed by seed, so that an interrupted ablation has whole seeds."""
        runs = []
        for seed in self.plan['seeds']:
            for table in self.plan['tables']:
                for row, entry in table['rows'].items():
                    if seed in entry.get('seeds', self.plan['seeds']):
                        options = {**self.plan['common'], **entry.get('options', {}), 'randomness.seed': seed}
                        words = ''.join(letter if letter.isalnum() else ' ' for letter in row).split()
                        name = f'{"-".join(words)}_seed{seed}'
                        result = self.results / f'{name}.json'
                        config = find_config(entry['config'])
                        runs.append(Run(name, row, seed, config, options, self.work_dir / name, result))
        return runs

    def points(self) -> list[Point]:
        points = []
        for run in self.all_runs():
            found = read_result(run, self.data, self.amp)
            if isinstance(found, str):
                print(f'{run.name}: its result was made with another `{found}` and is made again.', flush=True)
            points.append(Point(run.name, run.seed, is_done=isinstance(found, dict)))
        return points

    def suggest(self, trial: Any) -> dict[str, Any]:
        return {}

    def runs(self, trial: Any, work_dir: Path) -> list[Run]:
        """The training of a trial.

        Raises:
            ConfigError: If its row is no longer in the plan.
        """
        name = trial.user_attrs['point']
        runs = [run for run in self.all_runs() if run.name == name]
        if not runs:
            raise ConfigError(f'The plan has no row and seed for {name} any more.')
        return runs


def read_plan(path: Path, entries: Collection[str] = ENTRIES, example: str = 'docs/ablation/plan.json') -> dict:
    """The plan: ``about``, ``data``, ``seeds``, ``amp``, ``common`` options and ``tables`` of rows with config and options.

    ``metric`` names another score than the multitask one for the journal. With ``"baseline": true`` each table gets the row of
    the per-position baseline; a row may have ``seeds`` of its own.

    Args:
        path: Of the file.
        entries: What it must have.
        example: A plan that an error names.

    Raises:
        ConfigError: If the file is missing, is not JSON, lacks one of these, or names what is no registered class.
    """
    plan = read_json(path, 'plan', _FORM, ConfigError)
    missing = set(entries) - {name for name, value in plan.items() if value is not None}
    if missing:
        raise ConfigError(f'The plan {path} should hold {sorted(missing)}. {example} is an example.')
    for node in (plan['common'], plan.get('tables'), plan.get('strategies'), plan.get('baselines')):
        refuse_types(node, f'The plan {path}')
    return plan


def run_all(plan: dict, results: Path, work_dir: Path, data_root: Path, jobs: int) -> None:
    """Train what has no result yet, ``jobs`` at a time, each with its share of the cores. What failed is tried again.

    A result that was made with another config, other options or other numbers of the data is made again.

    Raises:
        UserError: If a training fails, after the others have ended.
    """
    make_folder(results)
    baseline = results / BASELINE_FILE
    if plan.get('baseline') and not (baseline.exists() and read_json(baseline, 'result', {}).get('data') == plan['data']):
        scores = score_position_baseline(fit_position_baseline(data_root / 'train'), data_root / 'val')
        now = datetime.datetime.now(datetime.timezone.utc)
        document = dict(row=BASELINE, data=plan['data'], split='val', metrics=scores, **provenance(now, 'cpu'))
        write_document(baseline, document)
    trials = PlannedTrials(plan, results, work_dir)
    # Several plans may share a work dir.
    study = SharedStudy(trials, work_dir / f'plan_{hashlib.sha256(plan["about"].encode()).hexdigest()[:8]}')
    study.enqueue(retry=True)
    before = {trial.number for trial in study.trials() if trial.state.is_finished()}
    run_trials(study, trials, work_dir, data_root, slots(jobs))
    names = {run.name for run in trials.all_runs()}
    ended = [trial for trial in study.trials() if trial.state.is_finished() and trial.number not in before]
    ended = [trial for trial in ended if trial.user_attrs['point'] in names]
    failed = [f'{trial.user_attrs["point"]}: {trial.user_attrs["error"]}' for trial in ended if 'error' in trial.user_attrs]
    if failed:
        raise UserError(f'{len(failed)} of {len(ended)} runs failed: {" ".join(failed)}')


def tables_in_markdown(plan: dict, results: Path) -> str:
    """A table for each of the plan's, of the runs that have a result: mean and standard deviation over the seeds.

    The last column is the processor time of the training without validations, if all runs of the table recorded it.

    Raises:
        UserError: If there is no result at all, or one was made with other options or data than the plan states.
    """
    for run in PlannedTrials(plan, results, results).all_runs():
        found = read_result(run, plan['data'], plan['amp'])
        if isinstance(found, str):
            raise UserError(
                f'{run.result} should have been made as the plan states. Found another `{found}`: run the plan again, or '
                'remove the file.'
            )
    documents = [read_json(path, 'result', _RESULT) for path in sorted(results.glob('*.json'))]
    if not documents:
        raise UserError(f'There is no result in {results}. Run the plan first.')
    lines = []
    for table in plan['tables']:
        names = [*([BASELINE] if plan.get('baseline') else []), *table['rows']]
        rows = {row: [d for d in documents if d['row'] == row] for row in names}
        found = [d for row in table['rows'] for d in rows[row]]
        if not found:
            continue
        shared = set(COLUMNS.values()).intersection(set().union(*(d['metrics'] for d in found)))
        if not {COLUMNS['mIoU'], COLUMNS['SI-logRMSE']} <= shared:
            shared.discard(COLUMNS['multitask'])  # 0 by definition with one task
        columns = {name: key for name, key in COLUMNS.items() if key in shared}
        seconds = {id(d): d['validations'][-1].get('train_cpu_seconds') for d in found if d.get('validations')}
        timed = bool(found) and all(seconds.get(id(d)) for d in found)
        headings = [*columns, *(['processor seconds'] if timed else []), 'seeds']
        lines += [f'## {table["title"]}', '', f'| row | parameters | {" | ".join(headings)} |']
        lines.append('|---|' + '---:|' * (len(headings) + 1))
        for row, runs in rows.items():
            if runs:
                cells = [mean_and_spread([d['metrics'][key] for d in runs if key in d['metrics']]) for key in columns.values()]
                cells += [mean_and_spread([seconds[id(d)] for d in runs if id(d) in seconds], '.0f')] if timed else []
                parameters = f'{runs[0]["parameters"]:,}' if 'parameters' in runs[0] else ''
                lines.append(f'| {row} | {parameters} | {" | ".join(cells)} | {"" if row == BASELINE else len(runs)} |')
        lines.append('')
    trainings = [d for d in documents if d['row'] != BASELINE]
    commits = sorted({d['commit'][:7] for d in documents if d['commit']})
    dates = sorted(d['date'][:10] for d in documents)
    devices = sorted({d['device'] for d in trainings or documents})
    lines.append(
        f'{len(trainings)} runs; commit {", ".join(commits)}; {dates[0]} to {dates[-1]}; {", ".join(devices)}; '
        f'torch {documents[0]["versions"]["torch"]}. Mean and standard deviation over seeds, last epoch, validation split.'
    )
    return '\n'.join(lines) + '\n'


def mean_and_spread(values: Sequence[float], form: str = '.2f') -> str:
    """Mean and standard deviation as text, the latter of two values and more; nothing for none."""
    if not values:
        return ''
    spread = f' ± {statistics.stdev(values):{form}}' if len(values) > 1 else ''
    return f'{statistics.mean(values):{form}}{spread}'
