"""Scores as text for a terminal."""

from collections.abc import Mapping

from prettytable import PrettyTable

from mtl_plugins.utils.data_files import printable

SUMMARY = 'metrics_summary'
TASK_PREFIX = 'metrics_task_'


def format_score_table(scores: Mapping[str, float]) -> str:
    """Two columns, name and score, in one block per group of names; the summary stands last, where one looks first."""
    table = PrettyTable(['metric', 'score'], align='l')
    table.align['score'] = 'r'
    groups = list(dict.fromkeys(name.split('/', 1)[0] for name in scores))
    for group in sorted(groups, key=lambda group: group == SUMMARY):
        title = 'summary' if group == SUMMARY else group.removeprefix(TASK_PREFIX)
        rows = [(name.split('/', 1)[1], score) for name, score in scores.items() if name.startswith(f'{group}/')]
        for number, (name, score) in enumerate(rows, start=1):
            table.add_row([printable(f'{title} {name}'), f'{score:.4f}'], divider=number == len(rows))
    return table.get_string()
