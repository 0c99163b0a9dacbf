"""Which of a run's validations is the best: the one whose checkpoint was kept."""

import contextlib
import math
from collections.abc import Mapping, Sequence
from typing import Any

from mtl_plugins.evaluation.functional.scores import with_ties_broken
from mtl_plugins.utils.score_names import SUMMARY_RULES


def best_validation(rows: Sequence[Mapping[str, float]], monitor: str | None, rule: str | None) -> int | None:
    """Index of the first row with the best ``monitor``, ties of multitask scores broken as for checkpoints; None without one.

    Args:
        rows: Metrics of each validation.
        monitor: Name of a score.
        rule: ``'greater'`` or ``'less'``; None is the rule of the summaries of this package.
    """
    rule = rule or SUMMARY_RULES.get(monitor)
    if monitor is None or rule not in ('greater', 'less'):
        return None
    sign = 1 if rule == 'greater' else -1
    values = [with_ties_broken(row).get(monitor, math.nan) for row in rows]
    known = [index for index, value in enumerate(values) if not math.isnan(value)]
    return max(known, key=lambda index: sign * values[index], default=None)


def read_row(row: Mapping[str, Any]) -> dict[str, float]:
    """The metrics of a row of ``metrics.csv``; what is not a number is left out."""
    scores = {}
    for name, value in row.items():
        if name not in ('epoch', 'iter'):
            with contextlib.suppress(ValueError, TypeError):
                scores[name] = float(value)
    return scores
