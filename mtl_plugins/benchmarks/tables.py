"""Results as tables for the terminal."""

from rich.console import Console
from rich.table import Table

# Wide enough for every column where the output is a file.
_WIDTH = 110


def print_result(result: dict) -> None:
    """Print one benchmark of the JSON document: a table per measurement, then the ratios."""
    console = Console()
    if not console.is_terminal:
        console = Console(width=_WIDTH)
    for measurement in result['measurements']:
        table = Table(title=f'{result["name"]}: {measurement["name"]} ({measurement["unit"]}, less is better)')
        for column, justify in (('contender', 'left'), ('median', 'right'), ('quartiles', 'right'), ('min..max', 'right')):
            table.add_column(column, justify=justify)
        for name, row in measurement['contenders'].items():
            table.add_row(
                name, _number(row['median']), _range(row['q1'], row['q3'], ' - '), _range(row['min'], row['max'], ' .. ')
            )
        console.print(table)
    table = Table(title=f'{result["name"]}: ratios')
    for column, justify in (('ratio', 'left'), ('value', 'right'), ('quartiles', 'right'), ('target', 'right'), ('met', 'left')):
        table.add_column(column, justify=justify)
    for ratio in result['ratios']:
        sign = {'least': '>=', 'most': '<='}[ratio['bound']]
        target = '' if ratio['target'] is None else f'{sign} {ratio["target"]:g}'
        met = {None: '', True: 'yes', False: 'NO'}[ratio['met']]
        table.add_row(ratio['name'], _number(ratio['value']), _range(ratio['low'], ratio['high'], ' - '), target, met)
    console.print(table)


def _number(value: float) -> str:
    return f'{value:.0f}' if abs(value) >= 1000 else f'{value:.3g}'


def _range(low: float, high: float, separator: str) -> str:
    return f'{_number(low)}{separator}{_number(high)}'
