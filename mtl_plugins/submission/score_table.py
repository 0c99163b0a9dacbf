"""Scores as text for a terminal."""

from collections.abc import Mapping

from prettytable import PrettyTable

_TITLES = dict(metrics_summary='summary', metrics_task_semseg='semseg: IoU', metrics_task_depth='depth')


def format_score_table(scores: Mapping[str, float]) -> str:
    """Two columns, name and score, in one block per group of names; the summary stands last, where one looks first."""
    table = PrettyTable(['metric', 'score'], align='l')
    table.align['score'] = 'r'
    groups = ('metrics_task_semseg', 'metrics_task_depth', 'metrics_summary')
    for group in groups:
        rows = [(name.split('/', 1)[1], score) for name, score in scores.items() if name.startswith(f'{group}/')]
        for number, (name, score) in enumerate(rows, start=1):
            table.add_row([f'{_TITLES[group]} {name}', f'{score:.4f}'], divider=number == len(rows))
    return table.get_string()
