"""Runs in a terminal."""

from collections.abc import Sequence

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from mtl_plugins.lab.runs.tables import make_table, progress_table
from mtl_plugins.records.record import RunRecord
from mtl_plugins.utils.data_files import printable

_STYLES = dict(running='cyan', finished='green', failed='red', killed='red', unreadable='red', interrupted='yellow')
_FIELDS = (
    'run_name', 'state', 'error', 'started', 'ended', 'seconds', 'progress', 'best', 'epoch_seconds', 'memory_mib', 'memory_of',
    'parameters', 'flops', 'flops_size', 'seed', 'device', 'data', 'config_file', 'config_hash', 'code', 'versions',
    'checkpoints', 'archive', 'task', 'tags', 'note',
)  # fmt: skip
_WIDEST_NAME = 40


def print_table(
    runs: Sequence[RunRecord], keys: Sequence[str] | None, most: int | None, all_columns: bool, console: Console | None = None
) -> None:
    """The newest runs, with as many columns as the terminal is wide for."""
    console = console or Console()
    hidden = max(len(runs) - most, 0) if most else 0
    table = make_table(runs[hidden:], keys)
    texts = table.texts()
    widths = [max(len(row[place]) for row in [table.titles, *texts]) + 3 for place in range(len(table.titles))]
    widths[0] = min(widths[0], _WIDEST_NAME)
    shown, used = [], 1
    for place, width in enumerate(widths):
        if all_columns or place == 0 or used + width <= console.width:
            shown.append(place)
            used += width
    drawn = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for place in shown:
        justify = 'right' if table.is_number[place] else 'left'
        drawn.add_column(
            Text(table.titles[place]), justify=justify, overflow='ellipsis' if place == 0 else 'fold', no_wrap=place == 0
        )
    for row in texts:
        drawn.add_row(*(Text(row[place], style=_STYLES.get(row[place], '')) for place in shown))
    console.print(drawn)
    left_out = [title for place, title in enumerate(table.titles) if place not in shown]
    if hidden:
        console.print(f'{hidden} earlier runs are not shown: --all, --where or --sort.')
    if left_out:
        console.print(Text(f'Columns that found no room: {", ".join(left_out)}. Choose with --columns, or --all.'))


def live_table(runs: Sequence[RunRecord]) -> Table:
    """What runs now: how far it is, its loss, its best scores, time so far and to go."""
    progress = progress_table(runs)
    table = Table(box=box.SIMPLE_HEAD, title=f'{len(progress.rows)} of {len(runs)} runs are running')
    for title in progress.titles:
        # Where there is little room, the name of the run is cut, not its numbers.
        table.add_column(Text(title), justify='left' if title == 'run' else 'right', no_wrap=title != 'run')
    for name, *cells in progress.rows:
        table.add_row(Text(name, no_wrap=True, overflow='ellipsis'), *cells)
    return table


def print_run(run: RunRecord, console: Console | None = None) -> None:
    """Everything of a record but the config."""
    console = console or Console()
    table = Table(box=None, show_header=False)
    for name in _FIELDS:
        value = run.state if name == 'state' else run.data.get(name)
        if isinstance(value, dict):
            value = ', '.join(f'{key} {item}' for key, item in value.items())
        if value not in (None, '', []):
            table.add_row(Text(name, style='bold'), Text(printable(value, kept='\n')))
    console.print(Text(printable(run.path), style='bold'))
    console.print(table)
    scores = Table('score', 'best validation', 'last', 'grader', box=box.SIMPLE_HEAD)
    graded = run.data.get('graded') or {}
    for name in dict.fromkeys([*run.scores, *run.last_scores, *graded]):
        values = [part.get(name) for part in (run.scores, run.last_scores, graded)]
        scores.add_row(Text(printable(name)), *('' if value is None else f'{value:.3f}' for value in values))
    if scores.row_count:
        console.print(scores)
