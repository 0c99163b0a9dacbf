"""The tables of scores of models side by side."""

from collections.abc import Iterator, Mapping
from typing import Any

from mtl_plugins.evaluation.scores import title_of
from mtl_plugins.lab.tables import Table, print_table, to_markdown
from mtl_plugins.utils.data_files import printable


def score_tables(document: Mapping[str, Any]) -> Iterator[Table]:
    """Yield a table of the summaries, then one of each label, its classes first; of two models with the difference.

    Four decimals are shown where all values of a row are below 1.
    """
    models = document['models']
    names = [printable(model['name']) for model in models] + ['difference'] * (len(models) == 2)
    known = list(dict.fromkeys(name for model in models for name in model['scores']))
    for heading in ('summary', *document['data']['labels']):
        prefix = 'metrics_summary/' if heading == 'summary' else f'metrics_task_{heading}/'
        rows = []
        for name in known:
            if name.startswith(prefix):
                values = [model['scores'].get(name) for model in models]
                some = [value for value in values if value is not None]
                digits = 4 if 0 < max(map(abs, some), default=0) < 1 else 2
                cells = ['' if value is None else f'{value:.{digits}f}' for value in values]
                if len(values) == 2:
                    cells.append(f'{values[1] - values[0]:+.{digits}f}' if len(some) == 2 else '')
                title = name.removeprefix(prefix)
                rows.append([title_of(name, title) if heading == 'summary' else title, *cells])
        if rows or heading == 'summary':
            yield Table([heading, *names], rows)


def print_comparison(document: Mapping[str, Any]) -> None:
    """Print the tables."""
    data = document['data']
    for number, table in enumerate(score_tables(document)):
        print_table(table, None if number else f'{data["images"]} images of {data["split"]}')


def comparison_in_markdown(document: Mapping[str, Any]) -> str:
    """Return the tables with what they were made from."""
    data, made = document['data'], document['provenance']
    changes = ' with uncommitted changes' if made['uncommitted_changes'] else ''
    origin = (
        f'Classes: IoU in per cent, one confusion matrix over all {data["images"]} images of the split `{data["split"]}` of '
        f'`{data["root"]}`. Commit {(made["commit"] or "unknown")[:10]}{changes}, {made["date"]}, {made["device"]}, torch '
        f'{made["versions"]["torch"]}.\n'
    )
    models = [
        [
            *(model['name'], f'`{model["config"]}`', f'`{model["checkpoint"]}`'),
            *(model['checkpoint_sha256'][:12], f'{model["parameters"]:,}'),
        ]
        for model in document['models']
    ]
    table = Table(['model', 'config', 'checkpoint', 'sha256', 'parameters'], models)
    return '\n'.join([*map(to_markdown, score_tables(document)), origin, to_markdown(table)])
