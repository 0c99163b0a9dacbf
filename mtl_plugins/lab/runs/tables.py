"""Lists of runs: all, those that train now, and the score sheet of the courses."""

import os
from collections.abc import Sequence
from typing import Any

from rich.console import Console, RenderableType
from rich.text import Text

from mtl_plugins.evaluation.scores import SUMMARY_MULTITASK, TASK_SUMMARIES
from mtl_plugins.lab.runs.query import differing_keys, headings, summary_keys
from mtl_plugins.lab.runs.work_dirs import RunRecord
from mtl_plugins.lab.tables import Table, to_csv, to_terminal
from mtl_plugins.utils.data_files import printable

_SHEET = {name.removeprefix('metrics_summary/'): name for name in (SUMMARY_MULTITASK, *TASK_SUMMARIES)}
_STYLES = dict(running='cyan', finished='green', failed='red', killed='red', unreadable='red', interrupted='yellow')
_WIDEST_NAME = 40
# Columns of what most runs have, whether it differs or not, and of what some have.
_SETTINGS = {'optim_wrapper.optimizer.lr': 'lr', 'train_dataloader.batch_size': 'batch', 'seconds': 'time'}
_OTHERS = dict(tags='tags', note='note', memory_mib='memory (MiB)', power_watts='power (W)', run_name='run name')


def run_names(runs: Sequence[RunRecord]) -> list[str]:
    """Return the paths of the work dirs below the folder that holds all of them; of a single one its name."""
    root = os.path.commonpath([run.path.absolute() for run in runs]) if len(runs) > 1 else None
    return [printable(run.path.absolute().relative_to(root) if root else run.path.absolute().name) for run in runs]


def make_table(runs: Sequence[RunRecord], keys: Sequence[str] | None = None) -> Table:
    """Tabulate name, state, progress, scores, settings, config keys that differ, and note; or name and the keys given."""
    if keys is None:
        summaries, differing = summary_keys(runs), differing_keys(runs)
        others = {key: title for key, title in _OTHERS.items() if any(run.get(key) for run in runs)}
        settings = {key: title for key, title in _SETTINGS.items() if any(run.get(key) is not None for run in runs)}
        differing = [key for key in differing if key not in settings]
        keys = ['state', 'progress.epoch', *summaries, *settings, *differing, *others]
        titles = ['state', 'epoch', *summaries.values(), *settings.values(), *headings(differing, runs), *others.values()]
    else:
        titles = headings(keys)
    keys, titles = ['run', *keys], ['run', *map(printable, titles)]
    values = [[name, *(run.get(key) for key in keys[1:])] for name, run in zip(run_names(runs), runs, strict=True)]
    return Table(titles, [list(map(_text, keys, row)) for row in values], keys, values)


def progress_table(runs: Sequence[RunRecord]) -> Table:
    """Tabulate the runs that train now: iteration, loss, best scores so far, and the time they will still take."""
    names = {run.path: name for run, name in zip(runs, run_names(runs), strict=True)}
    running = [run for run in runs if run.state == 'running']
    summaries = summary_keys(running)
    rows = []
    for run in running:
        done, total = run.number('progress.iter') or 0, run.number('progress.max_iters') or 0
        session = (run.data.get('sessions') or [{}])[-1]
        steps, seconds = done - (session.get('from_iter') or 0), session.get('seconds') or 0
        left = f'{(total - done) * seconds / steps / 60:.0f} min' if steps > 0 and seconds else ''
        scores = [_digits(run.number(key), 2) for key in summaries]
        rows.append([names[run.path], f'{done}/{total}', _digits(run.number('progress.loss'), 3), *scores, left])
    return Table(['run', 'iteration', 'loss', *summaries.values(), 'to go'], rows)


def live_table(runs: Sequence[RunRecord]) -> RenderableType:
    """Return the table of :func:`progress_table` for a terminal."""
    progress = progress_table(runs)
    return to_terminal(progress, f'{len(progress.rows)} of {len(runs)} runs are running')


def _digits(value: float | None, digits: int) -> str:
    return '' if value is None else f'{value:.{digits}f}'


def _text(key: str, value: Any) -> str:
    if value is None:
        return ''
    if key == 'seconds' and isinstance(value, (int, float)):
        minutes, seconds = divmod(round(value), 60)
        return f'{minutes // 60}:{minutes % 60:02d}:{seconds:02d}'
    if key in ('memory_mib', 'power_watts'):
        return f'{value:.0f}'
    if isinstance(value, float):
        return f'{value:.2f}' if '/' in key else f'{value:.4g}'
    return printable(', '.join(map(str, value)) if isinstance(value, list) else ' '.join(str(value).split()))


def score_sheet(runs: Sequence[RunRecord]) -> str:
    """Return task, run name, notes, the three scores of validation and of the grader as CSV, for runs that have scores."""
    header = ['task', 'run name', 'notes', *(f'{origin} {name}' for origin in ('validation', 'grader') for name in _SHEET)]
    rows = []
    for run in runs:
        if run.scores or run.data.get('graded'):
            scores = [part.get(key, '') for part in (run.scores, run.data.get('graded') or {}) for key in _SHEET.values()]
            task = run.data.get('task') or '+'.join((run.config.get('model') or {}).get('tasks') or ())
            rows.append([task, run.data.get('run_name') or run.path.absolute().name, run.data.get('note') or '', *scores])
    return to_csv(Table(header, rows))


def print_runs(
    runs: Sequence[RunRecord], keys: Sequence[str] | None, most: int | None, all_columns: bool, console: Console | None = None
) -> None:
    """Print the newest runs, with as many columns as the terminal is wide for."""
    console = console or Console()
    hidden = max(len(runs) - most, 0) if most else 0
    table = make_table(runs[hidden:], keys)
    widths = [max(map(len, cells)) + 3 for cells in zip(table.titles, *table.rows, strict=True)]
    shown, used = [0], 1 + min(widths[0], _WIDEST_NAME)
    for place, width in enumerate(widths[1:], start=1):
        if all_columns or used + width <= console.width:
            shown.append(place)
            used += width
    console.print(to_terminal(table, shown=shown, styles=_STYLES))
    left_out = [title for place, title in enumerate(table.titles) if place not in shown]
    if hidden:
        console.print(f'{hidden} earlier runs are not shown: --all, --where or --sort.')
    if left_out:
        console.print(Text(f'Columns that found no room: {", ".join(left_out)}. Choose with --columns, or --all.'))
