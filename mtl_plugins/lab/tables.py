"""Tables as text: for terminals and pipes, CSV, Markdown and LaTeX."""

import csv
import io
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text

from mtl_plugins.utils.data_files import printable

# 12.3, 1,234, 1e-4, 12.3 ± 0.4, 0:12:34
_NUMBER = re.compile(r'[-+]?([\d.,]+(e[-+]?\d+)?( ± [\d.]+)?|nan|inf)|\d+:\d\d:\d\d')
_LATEX = {
    '\\': r'\textbackslash{}', '{': r'\{', '}': r'\}', '&': r'\&', '%': r'\%', '$': r'\$', '#': r'\#', '_': r'\_',
    '~': r'\textasciitilde{}', '±': r'$\pm$', 'Δ': r'$\Delta$', '↑': r'$\uparrow$', '↓': r'$\downarrow$',
    '^': r'\textasciicircum{}', '<': r'\textless{}', '>': r'\textgreater{}',
}  # fmt: skip


@dataclass(frozen=True)
class Table:
    """Titles of columns, and rows of cells as people read them; a CSV file has ``keys`` and ``values`` instead where given."""

    titles: list[str]
    rows: list[list[str]]
    keys: list[str] | None = None
    values: list[list[Any]] | None = None

    @cached_property
    def is_number(self) -> list[bool]:
        """For each column True if it holds only numbers, with what belongs to them."""
        columns = [[row[place] for row in self.rows if row[place]] for place in range(len(self.titles))]
        return [bool(column) and all(_NUMBER.fullmatch(cell) for cell in column) for column in columns]


def to_plain(table: Table) -> str:
    """Align the columns, for pipes."""
    rows = [table.titles, *table.rows]
    widths = [max(len(row[place]) for row in rows) for place in range(len(table.titles))]
    pad = [str.rjust if number else str.ljust for number in table.is_number]
    lines = ['  '.join(p(cell, width) for p, cell, width in zip(pad, row, widths, strict=True)).rstrip() for row in rows]
    return '\n'.join(lines) + '\n'


def to_csv(table: Table) -> str:
    """Write full keys and full precision."""
    text = io.StringIO(newline='')
    rows = [table.keys or table.titles, *(table.rows if table.values is None else table.values)]
    rows = [[', '.join(map(str, cell)) if isinstance(cell, list) else cell for cell in row] for row in rows]
    cells = [[printable(cell, kept='\n') if isinstance(cell, str) else cell for cell in row] for row in rows]
    csv.writer(text, lineterminator='\n').writerows(cells)
    return text.getvalue()


def to_markdown(table: Table) -> str:
    """Write a table of GitHub's Markdown."""
    rule = ['--:' if number else '---' for number in table.is_number]
    rows = [[cell.replace('\\', '\\\\').replace('|', '\\|') for cell in row] for row in [table.titles, *table.rows]]
    return '\n'.join(f'| {" | ".join(row)} |' for row in [rows[0], rule, *rows[1:]]) + '\n'


def to_latex(table: Table) -> str:
    """Write a ``tabular`` that needs the package ``booktabs``."""
    rows = [' & '.join(''.join(_LATEX.get(c, c) for c in cell) for cell in row) + r' \\' for row in [table.titles, *table.rows]]
    columns = ''.join('r' if number else 'l' for number in table.is_number)
    lines = [rf'\begin{{tabular}}{{{columns}}}', r'\toprule', rows[0], r'\midrule', *rows[1:], r'\bottomrule', r'\end{tabular}']
    return '\n'.join(lines) + '\n'


WRITERS: dict[str, Callable[[Table], str]] = dict(csv=to_csv, md=to_markdown, tex=to_latex)


def to_terminal(table: Table, title: str | None = None, shown: Sequence[int] | None = None, styles: Mapping = {}) -> RichTable:
    """Lay the table out for :mod:`rich`, the columns ``shown`` or all; where there is little room, the first one is cut.

    ``styles`` are those of rich, by the text of a cell.
    """
    shown, numbers = range(len(table.titles)) if shown is None else shown, table.is_number
    drawn = RichTable(box=box.SIMPLE_HEAD, pad_edge=False, title=title and Text(title))
    for place in shown:
        drawn.add_column(Text(table.titles[place]), justify='right' if numbers[place] else 'left', no_wrap=numbers[place])
    for first, *row in ([row[place] for place in shown] for row in table.rows):
        name = Text(first, no_wrap=True, overflow='ellipsis')
        drawn.add_row(name, *(Text(cell, style=styles.get(cell, ''), overflow='fold') for cell in row))
    return drawn


def print_table(table: Table, title: str | None = None) -> None:
    """Print the table in the terminal."""
    Console().print(to_terminal(table, title))
