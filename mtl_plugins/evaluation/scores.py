"""Scores of MiniScapes' labels and what they have in common: names, titles, directions, and the multitask score."""

import math
import re
from collections.abc import Iterable, Mapping

from rich.console import Console
from rich.table import Table
from rich.text import Text

from mtl_plugins.evaluation.functional.scorer import Score, Scorer
from mtl_plugins.labels.presets import MINISCAPES_LABELS, MINISCAPES_TASKS, build_labels

SUMMARY = 'metrics_summary/'
# Those of which the multitask score is made, in the order of tables.
TASK_SUMMARIES = SUMMARY_SEMSEG, SUMMARY_DEPTH = tuple(SUMMARY + name for name in MINISCAPES_TASKS)
SUMMARY_MULTITASK, SUMMARY_UNCLIPPED = SUMMARY + 'multitask', SUMMARY + 'multitask_unclipped'

_SCORERS = [kind.scorer() for kind in build_labels(MINISCAPES_LABELS).values()]
# The summaries known without a data set, by name in the order of tables.
SUMMARIES: dict[str, Score] = {
    **{scorer.summary: scorer.described[scorer.summary] for scorer in _SCORERS},
    SUMMARY_MULTITASK: Score('multitask', '', True),
    SUMMARY_UNCLIPPED: Score('multitask_unclipped', '', True),
}
# Titles of those that tables show.
TITLED = {name: score.title for name, score in SUMMARIES.items() if name != SUMMARY_UNCLIPPED}


def title_of(name: str, default: str | None = None) -> str:
    """Return what tables call a score: its title, or ``default``, or its full name."""
    return TITLED.get(name, default or name)


def titles_in(names: Iterable[str]) -> dict[str, str]:
    """Return the scores among ``names`` that tables show, with their titles; multitask, 0 with one task, only with both tasks."""
    names = set(names)
    left_out = () if names.issuperset(TASK_SUMMARIES) else (SUMMARY_MULTITASK,)
    return {name: title for name, title in TITLED.items() if name in names and name not in left_out}


def axis_title(name: str) -> str:
    """Return what the axis of a plot calls a score or a loss: its title with its unit, or its name in words."""
    score = SUMMARIES.get(find_score(name, SUMMARIES) or name)
    if score is None:
        return name.removeprefix('metrics_task_').removeprefix(SUMMARY).replace('/', ' ').replace('_', ' ')
    return f'{score.title} ({score.unit})' if score.unit else score.title


def rule_of(name: str | None) -> str | None:
    """Return ``'greater'`` or ``'less'``, whichever is better, for a summary of MiniScapes' labels; None for others."""
    return SUMMARIES[name].rule if name in SUMMARIES else None


def scores_of(scorers: Iterable[Scorer]) -> dict[str, float]:
    """Return the scores of some labels by their full names; those of a label without a pixel that counts are NaN."""
    scores: dict[str, float] = {}
    for scorer in scorers:
        found = scorer.scores()
        scores |= dict.fromkeys(found, math.nan) if scorer.is_empty() else found
    return scores


def rules_of(scorers: Iterable[Scorer]) -> dict[str, str | None]:
    """Return ``'greater'`` or ``'less'``, whichever is better, by the full names of all scores; None if neither is."""
    rules: dict[str, str | None] = {}
    for scorer in scorers:
        rules |= {**dict.fromkeys(scorer.scores()), **{name: score.rule for name, score in scorer.described.items()}}
    return rules


def reaches(scores: Mapping[str, float], targets: Mapping[str, float], rules: Mapping[str, str] | None = None) -> bool:
    """Return True if each score is at least as good as its target; one that is absent or NaN is not.

    Args:
        scores: Of a validation, by name.
        targets: The least that is wanted, by name.
        rules: ``'greater'`` or ``'less'`` by name, for targets that are no summaries of MiniScapes' labels.
    """
    rules = rules or {}
    return all(
        name in scores and (scores[name] >= target if rules.get(name, rule_of(name)) == 'greater' else scores[name] <= target)
        for name, target in targets.items()
    )


def find_score(name: str, known: Iterable[str]) -> str | None:
    """Return the one of the ``known`` scores that people mean by ``name``; None if there is none or several.

    That is a full name, a title (``'mIoU'``, ``'abs rel'``), the name of a label (``'depth'``) or a last word (``'mean_iou'``);
    capitals, hyphens and underscores do not matter.
    """
    known = list(known)
    if name in known:
        return name
    word = _plain_word(name)
    # Labels with names of their own: the last words of the scores that the titles stand for.
    words = {_plain_word(score.title): last for scorer in _SCORERS for last, score in scorer.listed.items()}
    titled = [score for score, title in TITLED.items() if _plain_word(title) == word and score in known]
    summaries = [score for score in known if score.startswith(SUMMARY) and _plain_word(score.removeprefix(SUMMARY)) == word]
    last = _plain_word(words.get(word, word))
    others = [score for score in known if _plain_word(score.rpartition('/')[2]) == last]
    return next((found[0] for found in (titled, summaries, others) if len(found) == 1), None)


def _plain_word(name: str) -> str:
    return re.sub(r'[^0-9a-z.]', '', name.lower())


def multitask_scores(scores: Mapping[str, float]) -> dict[str, float]:
    """Return ``metrics_summary/multitask`` and, where both tasks are scored, ``metrics_summary/multitask_unclipped``.

    The former is ``max(mean_iou - 50, 0) + max(50 - si_log_rmse, 0)``, 0 if one of the two tasks is absent, NaN if one is NaN;
    the latter is the same sum without the two maxima.
    """
    if not scores.keys() >= set(TASK_SUMMARIES):
        return {SUMMARY_MULTITASK: 0.0}
    gains = (scores[SUMMARY_SEMSEG] - 50.0, 50.0 - scores[SUMMARY_DEPTH])
    multitask = math.nan if any(map(math.isnan, gains)) else sum(max(gain, 0.0) for gain in gains)
    return {SUMMARY_MULTITASK: multitask, SUMMARY_UNCLIPPED: sum(gains)}


def with_ties_broken(scores: Mapping[str, float]) -> dict[str, float]:
    """Return the scores by which checkpoints are chosen: the unclipped sum replaces a multitask score of 0.

    Both tasks are then below their thresholds and the sum is not positive, so that the order of all other scores is kept.
    """
    if scores.get(SUMMARY_MULTITASK) == 0 and SUMMARY_UNCLIPPED in scores:
        return {**scores, SUMMARY_MULTITASK: scores[SUMMARY_UNCLIPPED]}
    return dict(scores)


def print_metrics(metrics: Mapping[str, float], protocol: str = 'courses') -> None:
    """Print a table of all metrics, but for the multitask score of a single task."""
    table = Table('metric', 'value', title=None if protocol == 'courses' else f'protocol {protocol}')
    for name, value in metrics.items():
        if name != SUMMARY_MULTITASK or name in titles_in(metrics):
            table.add_row(Text(name), f'{value:.3f}')
    Console().print(table)
