"""A small language of conditions on runs: ``optim_wrapper.optimizer.lr < 1e-3 and (seed = 0 or state != failed)``."""

import difflib
import json
import operator
import re
from collections.abc import Callable, Sequence
from typing import Any

from mtl_plugins.errors import ConfigError
from mtl_plugins.evaluation.scores import SUMMARY_MULTITASK, TASK_SUMMARIES, TITLED, rule_of
from mtl_plugins.records.config_data import IRRELEVANT, IRRELEVANT_ANYWHERE, flatten
from mtl_plugins.records.record import MISSING, RunRecord
from mtl_plugins.utils.data_files import is_number

_TOKEN = re.compile(
    r"""\s*(?:(?P<op><=|>=|==|!=|[<>=~])|(?P<bracket>[()])|`(?P<key>[^`]+)`|(?P<quoted>'[^']*'|"[^"]*")|(?P<word>[^\s<>=!~()'"`]+))"""
)
_HOW = 'It should be KEY OP VALUE with <, <=, >, >=, =, != or ~ (contains), joined by and, or, not and brackets'
_WORDS = dict(true=True, false=False, none=None, null=None)
_ORDERS = {'<': operator.lt, '<=': operator.le, '>': operator.gt, '>=': operator.ge}
Condition = Callable[[RunRecord], bool]


class Query:
    """Conditions on runs, evaluated without running any code of theirs.

    A number is compared as one, a string by its letters; what is absent or of another kind is equal to nothing, in no order, and
    ``none``. Keys are those of :meth:`RunRecord.get`; one with spaces stands in backquotes, a value with spaces in quotes.

    Raises:
        ConfigError: If the text is something else.
    """

    def __init__(self, text: str) -> None:
        self.text = text
        self.keys: list[str] = []
        self._tokens = self._split(text)
        self.matches: Condition = self._any()
        if self._tokens:
            raise self._error(self._tokens[0][1])

    def _split(self, text: str) -> list[tuple[str, str]]:
        tokens, place = [], 0
        while text[place:].strip():
            match = _TOKEN.match(text, place)
            if match is None:
                raise self._error(text[place:].strip())
            tokens.append((match.lastgroup, match[match.lastgroup]))
            place = match.end()
        return tokens

    def _error(self, found: str | None) -> ConfigError:
        return ConfigError(f'The condition {self.text!r} cannot be read at {found or "its end"!r}. {_HOW}.')

    def _take(self, kind: str | None = None, *values: str) -> str | None:
        if self._tokens and (kind is None or self._tokens[0][0] == kind) and (not values or self._tokens[0][1] in values):
            return self._tokens.pop(0)[1]
        return None

    def _any(self, word: str = 'or') -> Condition:
        """Parse what ``or`` joins, or within it ``and``, which binds more tightly."""
        part, join = (self._one, all) if word == 'and' else (lambda: self._any('and'), any)
        parts = [part()]
        while self._take('word', word):
            parts.append(part())
        return lambda run: join(part(run) for part in parts)

    def _one(self) -> Condition:
        if self._take('word', 'not'):
            inner = self._one()
            return lambda run: not inner(run)
        if self._take('bracket', '('):
            inner = self._any()
            if not self._take('bracket', ')'):
                raise self._error(self._take())
            return inner
        key = self._take('key') or self._take('word')
        sign = self._take('op') if key else None
        quoted = self._take('quoted') if sign else None
        value = quoted[1:-1] if quoted is not None else self._take('word') if sign else None
        if value is None:
            raise self._error(self._take())
        self.keys.append(key)
        return lambda run: _compare(run.get(key, MISSING), sign, value, quoted is not None)


def _compare(found: Any, sign: str, text: str, quoted: bool) -> bool:
    if sign == '~':
        items = found if isinstance(found, (list, dict)) else [] if found in (MISSING, None) else [found]
        return any(text.casefold() in str(item).casefold() for item in items)
    value = text if quoted else _value(text)
    found = None if found is MISSING else found
    if isinstance(found, str):
        value = text if value is not None else None
    if sign in ('=', '==', '!='):
        same = found == value and isinstance(found, bool) == isinstance(value, bool)
        return same == (sign != '!=')
    comparable = (is_number(found) and is_number(value)) or (isinstance(found, str) and isinstance(value, str))
    return comparable and _ORDERS[sign](found, value)


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

    Where the class of something differs, its ``type`` stands for the arguments that only one of the classes has.
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
    shown = [key for key in keys if key not in partial or not any(key.startswith(t) and key != f'{t}type' for t in types)]
    return sorted(shown, key=lambda key: order.get(key.partition('.')[0], len(order)))


def headings(keys: Sequence[str]) -> list[str]:
    """Return the shortest ending of each key that no other key has, and that says something."""
    shortest = []
    for key in keys:
        parts = key.split('.')
        first = 2 if parts[-1] == 'type' or parts[-1].isdecimal() else 1
        endings = ['.'.join(parts[-count:]) for count in range(first, len(parts) + 1)]
        shortest.append(next((e for e in endings if sum(f'.{other}'.endswith(f'.{e}') for other in keys) == 1), key))
    return shortest


def summary_keys(runs: Sequence[RunRecord]) -> dict[str, str]:
    """Return the keys of the summaries of the runs with their titles; of the common one, if any run has all its tasks."""
    needed = {name: TASK_SUMMARIES if name == SUMMARY_MULTITASK else (name,) for name in TITLED}
    return {
        f'scores.{name}': title
        for name, title in TITLED.items()
        if any(all(each in run.scores for each in (name, *needed[name])) for run in runs)
    }


def check_keys(runs: Sequence[RunRecord], keys: Sequence[str]) -> None:
    """Refuse keys that none of the runs knows.

    Raises:
        ConfigError: With the nearest ones.
    """
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


def select(
    runs: Sequence[RunRecord], conditions: Sequence[str], sort: str | None = None, reverse: bool = False
) -> list[RunRecord]:
    """Return the runs that meet all conditions, in order: by start, or by a key, best scores first; runs without it stand last.

    Raises:
        ConfigError: If a condition cannot be read, or a key is unknown to all runs.
    """
    queries = [Query(condition) for condition in conditions]
    check_keys(runs, [key for query in queries for key in query.keys] + ([sort] if sort else []))
    chosen = [run for run in runs if all(query.matches(run) for query in queries)]
    if not sort:
        return chosen[::-1] if reverse else chosen
    name = sort.removeprefix('scores.')
    rule = rule_for(runs, name) or rule_for(runs, f'metrics_summary/{name}')
    downwards = (rule == 'greater') != reverse
    having = [run for run in chosen if run.get(sort) is not None]
    numbers = all(isinstance(run.get(sort), (int, float)) for run in having)
    having.sort(key=lambda run: run.get(sort) if numbers else str(run.get(sort)), reverse=downwards)
    return [*having, *(run for run in chosen if run.get(sort) is None)]
