"""Results as tables, for the terminal and for documents."""

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

# Wide enough for every column where the output is a file.
_WIDTH = 110
_MET = {None: '', True: 'yes', False: 'NO'}


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
        quartiles = _range(ratio['low'], ratio['high'], ' - ')
        table.add_row(ratio['name'], _number(ratio['value']), quartiles, _target(ratio), _MET[ratio['met']])
    console.print(table)


def ratios_in_markdown(document: dict) -> str:
    """The ratios of all benchmarks of the JSON document as one Markdown table under a line of provenance."""
    lines = [
        provenance_in_words(document['provenance'], ('torch', 'onedl-mmsegmentation', 'segmentation-models-pytorch')),
        '',
        '| benchmark | ratio | median | quartiles | target | met |',
        '|---|---|---|---|---|---|',
    ]
    for benchmark in document['benchmarks']:
        for ratio in benchmark['ratios']:
            quartiles = _range(ratio['low'], ratio['high'], ' - ')
            lines.append(
                f'| {benchmark["name"]} | {ratio["name"]} | {_number(ratio["value"])} | {quartiles} | {_target(ratio)} '
                f'| {_MET[ratio["met"]]} |'
            )
    return '\n'.join(lines) + '\n'


def provenance_in_words(made: dict, distributions: Sequence[str]) -> str:
    """One sentence on where and how numbers were made, with the versions of some distributions."""
    versions = ', '.join(f'{name} {made["versions"][name]}' for name in distributions)
    load = 'unknown' if made['load_average'] is None else f'{made["load_average"]:.1f}'
    changes = ' with uncommitted changes' if made['uncommitted_changes'] else ''
    return (
        f'Commit {(made["commit"] or "unknown")[:10]}{changes}, {made["date"]}, {made["cpu"]} ({made["cpu_capability"]}, '
        f'{made["cpu_cores"]} cores), device {made["device"]}, {made["threads"]} threads, {made["repeats"]} rounds, load before '
        f'{load}; {versions}.'
    )


def _target(ratio: dict) -> str:
    sign = {'least': '>=', 'most': '<='}[ratio['bound']]
    return '' if ratio['target'] is None else f'{sign} {ratio["target"]:g}'


def _number(value: float) -> str:
    return f'{value:.0f}' if abs(value) >= 1000 else f'{value:.3g}'


def _range(low: float, high: float, separator: str) -> str:
    return f'{_number(low)}{separator}{_number(high)}'
