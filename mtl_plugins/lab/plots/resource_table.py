"""The table of what runs cost."""

from collections.abc import Mapping, Sequence

from mtl_plugins.utils.data_files import printable

HEADINGS = dict(
    parameters='all', gflops='GFLOPs', memory='memory (MiB)', epoch='epoch (s)', hours='time (h)'
)  # fmt: skip
_DIGITS = dict(parameters=2, gflops=1, memory=0, epoch=1, hours=2)


def resource_rows(costs: Sequence[Mapping], score: str) -> tuple[list[str], list[list[str]]]:
    """Headings and cells: parameters by part in millions, the other costs, the score; columns without a value are left out.

    Args:
        costs: As :meth:`RunCost.describe` gives them.
        score: Name of the metric.
    """
    parts = list(dict.fromkeys(kind for cost in costs for kind, value in (cost['parts'] or {}).items() if value))
    columns = {kind: [_format((cost['parts'] or {}).get(kind), 2) for cost in costs] for kind in parts}
    columns |= {heading: [_format(cost[key], _DIGITS[key]) for cost in costs] for key, heading in HEADINGS.items()}
    columns[score] = [_format(cost['scores'].get(score), 2) for cost in costs]
    shown = {heading: cells for heading, cells in columns.items() if any(cells)}
    return ['run', *shown], [[cost['name'], *cells] for cost, *cells in zip(costs, *shown.values(), strict=True)]


def rows_in_markdown(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table whose first column is text."""
    headings, *rows = [[printable(cell).replace('|', '\\|') for cell in row] for row in (headings, *rows)]
    lines = [f'| {" | ".join(headings)} |', '|---|' + '--:|' * (len(headings) - 1)]
    return '\n'.join([*lines, *(f'| {" | ".join(cells)} |' for cells in rows)]) + '\n'


def _format(value: float | None, digits: int) -> str:
    return '' if value is None else f'{value:.{digits}f}'
