"""Names of scores: full, in tables, and as people write them."""

import re
from collections.abc import Iterable, Mapping

SUMMARY_SEMSEG = 'metrics_summary/semseg'
SUMMARY_DEPTH = 'metrics_summary/depth'
SUMMARY_MULTITASK = 'metrics_summary/multitask'
SUMMARY_UNCLIPPED = 'metrics_summary/multitask_unclipped'
# Those of which the multitask score is made, in the order of tables.
TASK_SUMMARIES = (SUMMARY_SEMSEG, SUMMARY_DEPTH)
# What people call the summaries of the labels of MiniScapes.
SUMMARY_TITLES = {
    SUMMARY_SEMSEG: 'mIoU',
    SUMMARY_DEPTH: 'SI-logRMSE',
    'metrics_summary/normals': 'mean angle',
    'metrics_summary/boundary': 'boundary F',
    SUMMARY_MULTITASK: 'multitask',
}

# Which of two values of a summary is the better.
SUMMARY_RULES = {
    SUMMARY_SEMSEG: 'greater',
    SUMMARY_DEPTH: 'less',
    'metrics_summary/normals': 'less',
    'metrics_summary/boundary': 'greater',
    SUMMARY_MULTITASK: 'greater',
    SUMMARY_UNCLIPPED: 'greater',
}
SUMMARY = 'metrics_summary/'

# Of labels with names of their own: the last words of the scores that the titles stand for.
_TITLED_WORDS = {'miou': 'meaniou', 'boundaryf': 'fbest'}


def reaches(scores: Mapping[str, float], targets: Mapping[str, float], rules: Mapping[str, str] = SUMMARY_RULES) -> bool:
    """Return True if each score is at least as good as its target; one that is absent or NaN is not.

    Args:
        scores: Of a validation, by name.
        targets: The least that is wanted, by name.
        rules: ``'greater'`` or ``'less'`` for the name of each target.
    """
    return all(
        name in scores and (scores[name] >= target if rules[name] == 'greater' else scores[name] <= target)
        for name, target in targets.items()
    )


def find_score(name: str, known: Iterable[str]) -> str | None:
    """Return the one of the ``known`` names of scores that people mean by ``name``; None if there is none or several.

    It is the full name, what tables call it (``'mIoU'``, ``'SI-logRMSE'``), the name of the label (``'depth'``) or the last word
    (``'mean_iou'``); capitals, hyphens and underscores do not matter.
    """
    known = list(known)
    if name in known:
        return name
    word = _plain_word(name)
    titled = [score for score, title in SUMMARY_TITLES.items() if _plain_word(title) == word and score in known]
    summaries = [score for score in known if score.startswith(SUMMARY) and _plain_word(score.removeprefix(SUMMARY)) == word]
    others = [score for score in known if _plain_word(score.rpartition('/')[2]) == _TITLED_WORDS.get(word, word)]
    return next((found[0] for found in (titled, summaries, others) if len(found) == 1), None)


def _plain_word(name: str) -> str:
    return re.sub(r'[^0-9a-z.]', '', name.lower())
