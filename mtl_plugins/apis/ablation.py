"""Many trainings with one budget: the runs of a plan, a JSON file for each, a table with mean and spread."""

import datetime
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import torch

from mtl_plugins.errors import ConfigError, UserError
from mtl_plugins.evaluation.functional.scores import SUMMARY_TITLES
from mtl_plugins.evaluation.metrics_file import FILE_NAME as METRICS_FILE
from mtl_plugins.evaluation.metrics_file import read_metrics
from mtl_plugins.evaluation.position_baseline import fit_position_baseline, score_position_baseline
from mtl_plugins.utils.files import replacing

ROOT = Path(__file__).resolve().parents[2]
COLUMNS = {title: name for name, title in SUMMARY_TITLES.items()}
BASELINE, BASELINE_FILE = 'per-position baseline', 'per-position-baseline.json'


@dataclass(frozen=True)
class Run:
    """One row of the plan with one seed."""

    row: str
    seed: int
    config: str
    options: dict

    @property
    def name(self) -> str:
        words = ''.join(letter if letter.isalnum() else ' ' for letter in self.row).split()
        return f'{"-".join(words)}_seed{self.seed}'


def read_plan(path: Path) -> dict:
    """The plan: ``about``, ``data``, ``seeds``, ``amp``, ``common`` options and ``tables`` of rows with config and options.

    With ``"baseline": true`` each table gets the row of the per-position baseline; a row may have ``seeds`` of its own.

    Raises:
        ConfigError: If the file is missing, is not JSON, or lacks one of these.
    """
    try:
        plan = json.loads(path.read_text())
    except (OSError, json.JSONDecodeError) as error:
        raise ConfigError(f'The plan {path} cannot be read: {error}.') from error
    missing = {'about', 'data', 'seeds', 'amp', 'common', 'tables'} - plan.keys()
    if missing:
        raise ConfigError(f'The plan {path} should hold {sorted(missing)}. docs/ablation/plan.json is an example.')
    return plan


def runs_of(plan: dict) -> Iterator[Run]:
    """All runs, seed by seed, so that an interrupted ablation has whole seeds."""
    for seed in plan['seeds']:
        for table in plan['tables']:
            for row, entry in table['rows'].items():
                if seed in entry.get('seeds', plan['seeds']):
                    options = {**plan['common'], **entry.get('options', {}), 'randomness.seed': seed}
                    yield Run(row, seed, entry['config'], options)


def run_all(plan: dict, results: Path, work_dir: Path, data_root: Path, jobs: int) -> None:
    """Train what has no result yet, ``jobs`` at a time, each with its share of the cores.

    Raises:
        UserError: If a training fails, after the others have ended.
    """
    results.mkdir(parents=True, exist_ok=True)
    if plan.get('baseline') and not (results / BASELINE_FILE).exists():
        scores = score_position_baseline(fit_position_baseline(data_root / 'train'), data_root / 'val')
        document = dict(row=BASELINE, data=plan['data'], split='val', metrics=scores, **_provenance(_now(), 'cpu'))
        _write(results / BASELINE_FILE, document)
    missing = [run for run in runs_of(plan) if not (results / f'{run.name}.json').exists()]
    threads = max(1, (os.cpu_count() or 1) // jobs)
    with ThreadPoolExecutor(jobs) as pool:
        failed = [
            error
            for error in pool.map(lambda run: _run(run, plan, results, work_dir, data_root, threads), missing)
            if error is not None
        ]
    if failed:
        raise UserError(f'{len(failed)} of {len(missing)} runs failed: {" ".join(failed)}')


def _run(run: Run, plan: dict, results: Path, work_dir: Path, data_root: Path, threads: int) -> str | None:
    """Train one run in a process of its own; a sentence if it fails."""
    folder = work_dir / run.name
    # One that was interrupted starts again: its time is that of the whole run.
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    started = _now()
    script = 'import json, sys; from mtl_plugins.apis.ablation import train_run; train_run(**json.loads(sys.argv[1]))'
    arguments = dict(config=run.config, options=run.options, data_root=str(data_root), work_dir=str(folder), amp=plan['amp'])
    environment = {**os.environ, 'OMP_NUM_THREADS': str(threads), 'PYTHONPATH': str(ROOT)}
    log = folder / 'output.txt'
    with log.open('w') as output:
        process = subprocess.run(
            [sys.executable, '-c', script, json.dumps(arguments)], cwd=ROOT, env=environment, stdout=output, stderr=output
        )
    if process.returncode:
        return f'{run.name} (see {log}).'
    metrics = {name: float(value) for name, value in list(read_metrics(folder / METRICS_FILE))[-1].items()}
    seconds = (_now() - started).total_seconds()
    document = dict(
        row=run.row,
        config=run.config,
        options=run.options,
        seed=run.seed,
        data=plan['data'],
        split='val',
        amp=plan['amp'],
        metrics=metrics,
        parameters=json.loads((folder / 'parameters.json').read_text()),
        seconds=seconds,
        **_provenance(started, torch.cuda.get_device_name() if torch.cuda.is_available() else f'cpu, {threads} thread(s)'),
    )
    _write(results / f'{run.name}.json', document)
    print(f'{run.name}: ' + ', '.join(f'{metrics[key]:.2f} {name}' for name, key in COLUMNS.items() if key in metrics))
    return None


def train_run(config: str, options: dict, data_root: str, work_dir: str, amp: bool) -> None:
    """Train one run of a plan in this process, without submission."""
    from mtl_plugins.apis.configuration import set_mixed_precision, set_work_dir, supports_bf16
    from mtl_plugins.apis.training import train
    from mtl_plugins.registry import MODELS
    from mtl_plugins.utils.config import load_config

    torch.set_num_threads(int(os.environ['OMP_NUM_THREADS']))
    resolved = load_config(config, options, data_root)
    resolved.submission.enabled = False
    set_work_dir(resolved, work_dir)
    if amp and supports_bf16():
        set_mixed_precision(resolved)
    parameters = sum(parameter.numel() for parameter in MODELS.build(resolved.model).parameters())
    (Path(work_dir) / 'parameters.json').write_text(json.dumps(parameters))
    train(resolved)


def _now() -> datetime.datetime:
    return datetime.datetime.now(datetime.timezone.utc)


def _provenance(started: datetime.datetime, device: str) -> dict:
    versions = dict(python=platform.python_version(), torch=torch.__version__)
    return dict(commit=_commit(), date=started.isoformat(timespec='seconds'), device=device, versions=versions)


def _write(path: Path, document: dict) -> None:
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(document, indent=2) + '\n')


def _commit() -> str | None:
    run = subprocess.run(['git', '-C', str(ROOT), 'rev-parse', 'HEAD'], capture_output=True, text=True)
    return run.stdout.strip() or None


def tables_in_markdown(plan: dict, results: Path) -> str:
    """A table for each of the plan's, of the runs that have a result: mean and standard deviation over the seeds.

    Raises:
        UserError: If there is no result at all.
    """
    documents = [json.loads(path.read_text()) for path in sorted(results.glob('*.json'))]
    if not documents:
        raise UserError(f'There is no result in {results}. Run the plan first.')
    lines = []
    for table in plan['tables']:
        names = [*([BASELINE] if plan.get('baseline') else []), *table['rows']]
        rows = {row: [d for d in documents if d['row'] == row] for row in names}
        found = [d for row in table['rows'] for d in rows[row]]
        shared = set(COLUMNS.values()).intersection(set().union(*(d['metrics'] for d in found)))
        if not {COLUMNS['mIoU'], COLUMNS['SI-logRMSE']} <= shared:
            shared.discard(COLUMNS['multitask'])  # 0 by definition with one task
        columns = {name: key for name, key in COLUMNS.items() if key in shared}
        lines += [f'## {table["title"]}', '', f'| row | parameters | {" | ".join(columns)} | seeds |']
        lines.append('|---|' + '---:|' * (len(columns) + 2))
        for row, runs in rows.items():
            if runs:
                cells = [_mean_and_spread([d['metrics'][key] for d in runs if key in d['metrics']]) for key in columns.values()]
                parameters = f'{runs[0]["parameters"]:,}' if 'parameters' in runs[0] else ''
                lines.append(f'| {row} | {parameters} | {" | ".join(cells)} | {"" if row == BASELINE else len(runs)} |')
        lines.append('')
    commits = sorted({d['commit'][:7] for d in documents if d['commit']})
    dates = sorted(d['date'][:10] for d in documents)
    devices = sorted({d['device'] for d in documents})
    lines.append(
        f'{len(documents)} runs; commit {", ".join(commits)}; {dates[0]} to {dates[-1]}; {", ".join(devices)}; '
        f'torch {documents[0]["versions"]["torch"]}. Mean and standard deviation over seeds, last epoch, validation split.'
    )
    return '\n'.join(lines) + '\n'


def _mean_and_spread(values: Sequence[float]) -> str:
    if not values:
        return ''
    spread = f' ± {statistics.stdev(values):.2f}' if len(values) > 1 else ''
    return f'{statistics.mean(values):.2f}{spread}'
