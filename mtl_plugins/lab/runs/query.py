"""Choice and order of the runs that are listed, and the keys in which their configs differ."""

import difflib
import json
import operator
import re
from collections.abc import Sequence
from typing import Any, NamedTuple

from mtl_plugins.errors import ConfigError
from mtl_plugins.evaluation.scores import SUMMARIES, TITLED, find_score, rule_of, titles_in
from mtl_plugins.lab.runs.work_dirs import MISSING, RunRecord
from mtl_plugins.records.config_data import IRRELEVANT, IRRELEVANT_ANYWHERE, flatten
from mtl_plugins.utils.data_files import is_number

_CONDITION = re.compile(
    r"""\s*(?P<key>[^<>=!~'"()]*[^<>=!~'"()\s])\s*(?P<sign><=|>=|==|!=|[<>=~])\s*"""
    r"""('(?P<single>[^']*)'|"(?P<double>[^"]*)"|(?P<word>[^\s<>=!~'"()]+))\s*(and\b(?=.*\S)|$)"""
)
_WORDS = dict(true=True, false=False, none=None, null=None)
_ORDERS = {'<': operator.lt, '<=': operator.le, '>': operator.gt, '>=': operator.ge}


class Condition(NamedTuple):
    """``KEY OP VALUE``; a quoted value is compared by its letters.

    A number is compared as one, a string by its letters; what is absent or of another kind is equal to nothing, in no order, and
    ``none``. Keys are those of :meth:`RunRecord.get`.
    """

    key: str
    sign: str
    text: str
    quoted: bool

    def matches(self, run: RunRecord) -> bool:
        found = run.get(self.key)
        if self.sign == '~':
            items = found if isinstance(found, (list, dict)) else [] if found is None else [found]
            return any(self.text.casefold() in str(item).casefold() for item in items)
        value = self.text if self.quoted else _value(self.text)
        if isinstance(found, str):
            value = self.text if value is not None else None
        if self.sign in ('=', '==', '!='):
            same = found == value and isinstance(found, bool) == isinstance(value, bool)
            return same == (self.sign != '!=')
        comparable = (is_number(found) and is_number(value)) or (isinstance(found, str) and isinstance(value, str))
        return comparable and _ORDERS[self.sign](found, value)


def read_conditions(text: str) -> list[Condition]:
    """Split a text into its conditions, without running any code of it; another text is a `ConfigError`."""
    conditions, place = [], 0
    while place < len(text) or not conditions:
        match = _CONDITION.match(text, place)
        if match is None:
            raise ConfigError(
                f'The condition {text!r} cannot be read at {text[place:].strip() or "its end"!r}. It should be KEY OP VALUE with '
                '<, <=, >, >=, =, != or ~ (contains), or several joined by and.'
            )
        quoted = match['single'] if match['double'] is None else match['double']
        value = match['word'] if quoted is None else quoted
        conditions.append(Condition(match['key'], match['sign'], value, quoted is not None))
        place = match.end()
    return conditions


def _value(text: str) -> Any:
    if text.casefold() in _WORDS:
        return _WORDS[text.casefold()]
    try:
        return float(text)
    except ValueError:
        return text


# Hooks save, draw and log; a package that got another one would fill the table.
_NOT_SHOWN = IRRELEVANT | {'load_from', 'default_hooks'}


def _flat(section: str, text: str) -> dict[str, Any]:
    return dict(flatten(json.loads(text), section))


def differing_keys(runs: Sequence[RunRecord]) -> list[str]:
    """Return the dotted keys of the config in which the runs differ, without names, places and default hooks.

    Where the class of something differs, its ``type`` stands for the arguments that only one of the classes has, and in a list
    for all of them: one position holds different things.
    """
    known = [run for run in runs if run.config_sections]
    keys: list[str] = []
    partial = set()
    for section in dict.fromkeys(name for run in known for name in run.config_sections):
        # Not a set: the order of the columns is that of the runs.
        texts = list(dict.fromkeys(run.config_sections.get(section) for run in known))
        if len(texts) == 1 or section in _NOT_SHOWN:
            continue
        variants = [{} if text is None else _flat(section, text) for text in texts]
        for key in dict.fromkeys(key for variant in variants for key in variant):
            values = [variant.get(key, MISSING) for variant in variants]
            if any(value != values[0] for value in values) and not IRRELEVANT_ANYWHERE & set(key.split('.')):
                keys.append(key)
                partial |= {key} if MISSING in values else set()
    types = [key.removesuffix('type') for key in keys if key.endswith('.type')]
    order = {key: place for place, key in enumerate(known[0].config_sections)} if known else {}
    lists = tuple(each for each in types if each.rstrip('.').rpartition('.')[2].isdecimal())
    shown = [key for key in keys if key.endswith('.type') or not key.startswith(tuple(types) if key in partial else lists)]
    return sorted(shown, key=lambda key: order.get(key.partition('.')[0], len(order)))


def headings(keys: Sequence[str], runs: Sequence[RunRecord] = ()) -> list[str]:
    """Return the shortest ending of each key that no other key, of the configs of ``runs`` either, has, and says something."""
    shortest = []
    sections = {(name, text) for run in runs for name, text in run.config_sections.items()}
    known = {*keys, *(key for name, text in sections for key in _flat(name, text))}
    for key in keys:
        parts = key.split('.')
        # A position alone says nothing: the name of its list is shown.
        first = next(n for n in range(1 + (parts[-1] == 'type'), len(parts) + 1) if n == len(parts) or not parts[-n].isdecimal())
        endings = ['.'.join(parts[-count:]) for count in range(first, len(parts) + 1)]
        shortest.append(next((e for e in endings if sum(f'.{other}'.endswith(f'.{e}') for other in known) == 1), key))
    return shortest


def summary_keys(runs: Sequence[RunRecord]) -> dict[str, str]:
    """Return the keys of the summaries of the runs with their titles; of the common one, if any run has all its tasks."""
    shown = [titles_in(run.scores) for run in runs]
    return {f'scores.{name}': title for name, title in TITLED.items() if any(name in each for each in shown)}


def check_keys(runs: Sequence[RunRecord], keys: Sequence[str]) -> None:
    """Refuse keys that none of the runs knows, with the nearest ones."""
    for key in keys:
        if runs and all(run.get(key, MISSING) is MISSING for run in runs):
            known = {name for run in runs[:50] for name in [*run.data, *(f'scores.{score}' for score in run.scores)]}
            known |= {name for run in runs[:50] for section, text in run.config_sections.items() for name in _flat(section, text)}
            close = difflib.get_close_matches(key, sorted(known), n=3) or sorted(k for k in known if k.endswith(f'.{key}'))[:3]
            raise ConfigError(
                f'None of the {len(runs)} runs has the key {key!r}.' + (f' Like it: {", ".join(close)}.' if close else '')
            )


def rule_for(runs: Sequence[RunRecord], metric: str) -> str | None:
    """Return ``'greater'`` or ``'less'``, whichever is better: for a summary, or a score that chose checkpoints of the runs."""
    bests = [run.data.get('best') or {} for run in runs]
    return rule_of(metric) or {best.get('monitor'): best.get('rule') for best in bests}.get(metric)


def select(runs: Sequence[RunRecord], texts: Sequence[str], sort: str | None = None) -> list[RunRecord]:
    """Return the runs that meet all conditions, in order: by start, or by a key, best scores first; runs without it are last."""
    conditions = [condition for text in texts for condition in read_conditions(text)]
    check_keys(runs, [condition.key for condition in conditions] + ([sort] if sort else []))
    chosen = [run for run in runs if all(condition.matches(run) for condition in conditions)]
    if not sort:
        return chosen
    name = sort.removeprefix('scores.')
    rule = rule_for(runs, find_score(name, SUMMARIES) or name)
    having = [run for run in chosen if run.get(sort) is not None]
    numbers = all(isinstance(run.get(sort), (int, float)) for run in having)
    having.sort(key=lambda run: run.get(sort) if numbers else str(run.get(sort)), reverse=rule == 'greater')
    return [*having, *(run for run in chosen if run.get(sort) is None)]
