"""How long recipes train until they reach given scores: the trainings of a plan, and their table."""

import statistics
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mtl_plugins.errors import ConfigError, UserError
from mtl_plugins.lab.experiments.ablation import mean_and_spread
from mtl_plugins.utils.data_files import read_json
from mtl_plugins.utils.score_names import SUMMARY_RULES, SUMMARY_TITLES, find_score, reaches

EXAMPLE = 'docs/time_to_score/plan.json'


def read_targets(targets: Mapping[str, float]) -> dict[str, float]:
    """The targets by the names of the summaries, from their titles or names.

    Raises:
        ConfigError: If there is none, or one is no summary.
    """
    names = {title: find_score(title, SUMMARY_RULES) for title in targets}
    unknown = [title for title, name in names.items() if name is None]
    found = {name: float(targets[title]) for title, name in names.items()}
    if unknown or not found:
        raise ConfigError(
            f'`targets` should be scores by name, among {", ".join(SUMMARY_TITLES.values())}. '
            f'Found {unknown[0] if unknown else "none"}.'
        )
    return found


def with_targets(plan: dict[str, Any], targets: Mapping[str, float], val_iters: int) -> dict[str, Any]:
    """The plan whose trainings validate after every ``val_iters`` iterations and end when one reaches all targets."""
    common = {**plan['common'], 'train_cfg.val_iters': val_iters, 'train_cfg.stop_at': dict(targets)}
    return {**plan, 'common': common}


def first_to_reach(document: Mapping[str, Any], targets: Mapping[str, float]) -> dict[str, Any] | None:
    """The first validation of a result that has reached all targets; None if none has."""
    for validation in document['validations']:
        if targets.keys() <= validation.keys() and reaches(validation, targets):
            return validation
    return None


def table_in_markdown(plan: Mapping[str, Any], results: Path, targets: Mapping[str, float], val_iters: int) -> str:
    """A row for each recipe: how many seeds reached the targets, and mean and standard deviation of what it took them.

    The ratio is that of the first row's mean processor seconds to this one's. Seeds that did not reach the targets count with all
    that they trained, and make their row's means lower bounds.

    Raises:
        UserError: If there is no result.
    """
    documents = [read_json(path, 'result', dict(validations=[{}])) for path in sorted(results.glob('*.json'))]
    rows = {row: [d for d in documents if d['row'] == row] for table in plan['tables'] for row in table['rows']}
    if not any(rows.values()):
        raise UserError(f'There is no result in {results}. Run the plan first.')
    names = ' and '.join(f'{value:g} {SUMMARY_TITLES.get(name, name)}' for name, value in targets.items())
    lines = [
        f'| recipe, to {names} | parameters | seeds that got there | iterations | seconds | processor seconds | times as fast |',
        '|---|---:|---:|---:|---:|---:|---:|',
    ]
    reference, reference_complete = None, False
    for row, runs in rows.items():
        if not runs:
            continue
        reached = [first_to_reach(run, targets) for run in runs]
        entries = [found or run['validations'][-1] for found, run in zip(reached, runs, strict=True)]
        complete = all(reached)
        cells = [row, f'{runs[0]["parameters"]:,}', f'{sum(map(bool, reached))} of {len(runs)}']
        keys = ('iter', 'train_seconds', 'train_cpu_seconds')
        columns = [[entry[key] for entry in entries if entry[key] is not None] for key in keys]
        means = [mean_and_spread(values, '.0f') for values in columns]
        cells += means if complete else [f'more than {mean.partition(" ")[0]}' if mean else '' for mean in means]
        mean = statistics.mean(columns[-1]) if columns[-1] else None
        reference, reference_complete = reference or mean, reference_complete if reference else complete
        # Of two bounds there is no ratio.
        known = mean and (complete or reference_complete)
        bound = {(True, False): 'more than ', (False, True): 'less than '}.get((complete, reference_complete), '')
        cells.append(f'{bound}{reference / mean:.2f}' if known else '')
        lines.append(f'| {" | ".join(cells)} |')
    found = [document for runs in rows.values() for document in runs]
    commits = sorted({d['commit'][:7] for d in found if d['commit']})
    dates = sorted(d['date'][:10] for d in found)
    lines += [
        '',
        f'{len(found)} runs; commit {", ".join(commits)}; {dates[0]} to {dates[-1]}; '
        f'{", ".join(sorted({d["device"] for d in found}))}; torch {found[0]["versions"]["torch"]}. Training time without '
        f'validation, start of the process and wait for the first batch; validated every {val_iters} iterations. Mean and '
        'standard deviation over seeds. The last column compares processor seconds with the first row.',
    ]
    return '\n'.join(lines) + '\n'
