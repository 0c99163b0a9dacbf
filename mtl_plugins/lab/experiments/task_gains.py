"""Gains and losses of tasks that share a network: changes against networks of one task, ranks, and intervals over seeds."""

import statistics
from collections.abc import Mapping, Sequence

from scipy.stats import rankdata, t

from mtl_plugins.errors import ArgumentError

Rules = Mapping[str, Mapping[str, str]]
_SIGNS = {'greater': 1.0, 'less': -1.0}


def relative_changes(scores: Mapping[str, float], baseline: Mapping[str, float], rules: Rules) -> dict[str, float]:
    """Return for each task the mean over its metrics of ``100 sign (score - baseline) / baseline``: per cent, positive is better.

    ``rules`` has for each task its metrics, each ``'greater'`` (sign 1) or ``'less'`` (sign -1).

    Raises:
        ArgumentError: If a task has no metric, a rule is another word, or a metric of the baseline is 0.
    """
    changes = {}
    for task, metrics in rules.items():
        if not metrics:
            raise ArgumentError(f'`rules` names no metric of {task}. Every task needs one.')
        values = []
        for metric, rule in metrics.items():
            if baseline[metric] == 0:
                raise ArgumentError(
                    f'`baseline` should not be 0, against which nothing is a share. Found 0 for {metric}: leave it out.'
                )
            values.append(100 * _sign(metric, rule) * (scores[metric] - baseline[metric]) / baseline[metric])
        changes[task] = statistics.fmean(values)
    return changes


def delta_m(scores: Mapping[str, float], baseline: Mapping[str, float], rules: Rules) -> float:
    """Return the mean of :func:`relative_changes` over the tasks, the delta_m of Maninis et al. (arXiv 1904.08918), in per cent.

    The paper has one metric per task; with several, each task weighs the same, as LibMTL counts.
    """
    return statistics.fmean(relative_changes(scores, baseline, rules).values())


def mean_ranks(scores: Mapping[str, Mapping[str, float]], rules: Rules) -> dict[str, float]:
    """Return the rank of each method, 1 being the best, averaged over the metrics of a task, and then over the tasks.

    Equal scores share the mean of their ranks.
    """
    totals = dict.fromkeys(scores, 0.0)
    for metrics in rules.values():
        for metric, rule in metrics.items():
            ranks = rankdata([-_sign(metric, rule) * own[metric] for own in scores.values()])
            for name, rank in zip(scores, ranks.tolist(), strict=True):
                totals[name] += rank / (len(metrics) * len(rules))
    return totals


def mean_and_interval(values: Sequence[float], level: float = 0.95) -> tuple[float, float | None]:
    """Return the mean and the half width of Student's interval for it, ``t s / sqrt(n)``; None for that of one value."""
    mean, count = statistics.fmean(values), len(values)
    if count < 2:
        return mean, None
    return mean, float(t.ppf((1 + level) / 2, count - 1)) * statistics.stdev(values) / count**0.5


def _sign(metric: str, rule: str) -> float:
    if rule not in _SIGNS:
        raise ArgumentError(f"`rules` should say 'greater' or 'less'. Found {rule!r} for {metric}.")
    return _SIGNS[rule]
