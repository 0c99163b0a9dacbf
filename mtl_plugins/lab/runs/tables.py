"""Lists of runs as text: for terminals and pipes, CSV, Markdown and LaTeX, and the score sheet of the courses."""

import csv
import io
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mtl_plugins.errors import ConfigError
from mtl_plugins.evaluation.scores import SUMMARY_MULTITASK, TASK_SUMMARIES
from mtl_plugins.lab.runs.query import differing_keys, headings, summary_keys
from mtl_plugins.records.record import RunRecord
from mtl_plugins.utils.data_files import printable

FORMATS = {'.csv': 'csv', '.md': 'md', '.tex': 'tex'}
_SHEET = {name.removeprefix('metrics_summary/'): name for name in (SUMMARY_MULTITASK, *TASK_SUMMARIES)}
# 12.3, 1,234, 1e-4, 12.3 ± 0.4, 0:12:34
_NUMBER = re.compile(r'[-+]?[\d.,]+(e[-+]?\d+)?( ± [\d.]+)?|\d+:\d\d:\d\d')
_LATEX = {
    '\\': r'\textbackslash{}', '{': r'\{', '}': r'\}', '&': r'\&', '%': r'\%', '$': r'\$', '#': r'\#', '_': r'\_',
    '~': r'\textasciitilde{}', '±': r'$\pm$', 'Δ': r'$\Delta$', '↑': r'$\uparrow$', '↓': r'$\downarrow$',
    '^': r'\textasciicircum{}', '<': r'\textless{}', '>': r'\textgreater{}',
}  # fmt: skip


@dataclass(frozen=True)
class RunTable:
    """Keys, what stands over their columns, and a row of values for each run; None where a run does not know."""

    keys: list[str]
    titles: list[str]
    rows: list[list[Any]]

    @property
    def is_number(self) -> list[bool]:
        """Whether a column holds numbers only."""
        columns = [[row[place] for row in self.rows if row[place] is not None] for place in range(len(self.keys))]
        return [bool(c) and all(isinstance(v, (int, float)) and not isinstance(v, bool) for v in c) for c in columns]

    def texts(self) -> list[list[str]]:
        """The values as people read them."""
        return [[_text(key, value) for key, value in zip(self.keys, row, strict=True)] for row in self.rows]


@dataclass(frozen=True)
class TextTable:
    """What stands over the columns, and the cells as people read them."""

    titles: list[str]
    rows: list[list[str]]

    @property
    def keys(self) -> list[str]:
        return self.titles

    @property
    def is_number(self) -> list[bool]:
        """Whether a column holds numbers, with what belongs to them, only."""
        columns = [[row[place] for row in self.rows if row[place]] for place in range(len(self.titles))]
        return [bool(column) and all(_NUMBER.fullmatch(cell) for cell in column) for column in columns]

    def texts(self) -> list[list[str]]:
        return self.rows


Table = RunTable | TextTable


def run_names(runs: Sequence[RunRecord]) -> list[str]:
    """Paths of the work dirs below the folder that holds all of them; of a single one its name."""
    root = os.path.commonpath([run.path.absolute() for run in runs]) if len(runs) > 1 else None
    return [printable(run.path.absolute().relative_to(root) if root else run.path.absolute().name) for run in runs]


def make_table(runs: Sequence[RunRecord], keys: Sequence[str] | None = None) -> RunTable:
    """Name, state, progress and scores of runs, the config keys that differ, time, note; or name and the keys given."""
    if keys is None:
        summaries, differing = summary_keys(runs), differing_keys(runs)
        notes = [key for key in ('tags', 'note') if any(run.get(key) for run in runs)]
        keys = ['state', 'progress.epoch', *summaries, *differing, 'seconds', *notes]
        titles = ['state', 'epoch', *summaries.values(), *headings(differing), 'time', *notes]
    else:
        titles = headings(keys)
    rows = [[name, *(run.get(key) for key in keys)] for name, run in zip(run_names(runs), runs, strict=True)]
    return RunTable(['run', *keys], ['run', *map(printable, titles)], rows)


def progress_table(runs: Sequence[RunRecord]) -> TextTable:
    """The runs that run now: how far they are, their loss, their best scores so far, the time that they will still take."""
    names = {run.path: name for run, name in zip(runs, run_names(runs), strict=True)}
    running = [run for run in runs if run.state == 'running']
    summaries = summary_keys(running)
    rows = []
    for run in running:
        done, total = run.number('progress.iter') or 0, run.number('progress.max_iters') or 0
        loss, session = run.number('progress.loss'), (run.data.get('sessions') or [{}])[-1]
        steps, seconds = done - (session.get('from_iter') or 0), session.get('seconds') or 0
        left = f'{(total - done) * seconds / steps / 60:.0f} min' if steps > 0 and seconds else ''
        scores = [run.number(key) for key in summaries]
        cells = ['' if loss is None else f'{loss:.3f}', *('' if score is None else f'{score:.2f}' for score in scores), left]
        rows.append([names[run.path], f'{done}/{total}', *cells])
    return TextTable(['run', 'iteration', 'loss', *summaries.values(), 'to go'], rows)


def _text(key: str, value: Any) -> str:
    if value is None:
        return ''
    if key == 'seconds' and isinstance(value, (int, float)):
        minutes, seconds = divmod(round(value), 60)
        return f'{minutes // 60}:{minutes % 60:02d}:{seconds:02d}'
    if isinstance(value, float):
        return f'{value:.2f}' if '/' in key else f'{value:.4g}'
    return printable(', '.join(map(str, value)) if isinstance(value, list) else ' '.join(str(value).split()))


def to_plain(table: Table) -> str:
    """Aligned columns, for pipes."""
    rows = [table.titles, *table.texts()]
    widths = [max(len(row[place]) for row in rows) for place in range(len(table.titles))]
    pad = [str.rjust if number else str.ljust for number in table.is_number]
    lines = ['  '.join(p(cell, width) for p, cell, width in zip(pad, row, widths, strict=True)).rstrip() for row in rows]
    return '\n'.join(lines) + '\n'


def to_csv(table: Table) -> str:
    """Full keys and full precision."""
    rows = [[', '.join(map(str, v)) if isinstance(v, list) else v for v in row] for row in table.rows]
    return _csv([table.keys, *rows])


def _csv(rows: Sequence[Sequence[Any]]) -> str:
    text = io.StringIO(newline='')
    cells = [[printable(cell, kept='\n') if isinstance(cell, str) else cell for cell in row] for row in rows]
    csv.writer(text, lineterminator='\n').writerows(cells)
    return text.getvalue()


def to_markdown(table: Table) -> str:
    """A table of GitHub's Markdown."""
    rule = ['--:' if number else '---' for number in table.is_number]
    rows = [[cell.replace('\\', '\\\\').replace('|', '\\|') for cell in row] for row in [table.titles, *table.texts()]]
    return '\n'.join(f'| {" | ".join(row)} |' for row in [rows[0], rule, *rows[1:]]) + '\n'


def to_latex(table: Table) -> str:
    """A ``tabular`` that needs the package ``booktabs``."""
    rows = [' & '.join(map(escape_latex, row)) + r' \\' for row in [table.titles, *table.texts()]]
    columns = ''.join('r' if number else 'l' for number in table.is_number)
    lines = [rf'\begin{{tabular}}{{{columns}}}', r'\toprule', rows[0], r'\midrule', *rows[1:], r'\bottomrule', r'\end{tabular}']
    return '\n'.join(lines) + '\n'


def escape_latex(text: str) -> str:
    """``text`` with every letter that means something to LaTeX written so that it is printed."""
    return ''.join(_LATEX.get(letter, letter) for letter in text)


def export(table: RunTable, form: str | None, path: Path | None) -> str:
    """The table as ``'csv'``, ``'md'`` or ``'tex'``; None takes what the file's name says, or CSV without one.

    Raises:
        ConfigError: If the name says nothing known.
    """
    if form is None:
        form = FORMATS.get(path.suffix) if path else 'csv'
    if form is None:
        raise ConfigError(f"`--out` should end in {', '.join(FORMATS)}, or `--format` say the format. Found '{path}'.")
    return dict(csv=to_csv, md=to_markdown, tex=to_latex)[form](table)


def score_sheet(runs: Sequence[RunRecord]) -> str:
    """CSV: task, run name, notes, the three scores of validation and those of the grader; runs without scores are left out."""
    header = ['task', 'run name', 'notes', *(f'{origin} {name}' for origin in ('validation', 'grader') for name in _SHEET)]
    rows = []
    for run in runs:
        if run.scores or run.data.get('graded'):
            scores = [part.get(key, '') for part in (run.scores, run.data.get('graded') or {}) for key in _SHEET.values()]
            task = run.data.get('task') or '+'.join((run.config.get('model') or {}).get('tasks') or ())
            rows.append([task, run.run_name or run.path.absolute().name, run.data.get('note') or '', *scores])
    return _csv([header, *rows])
