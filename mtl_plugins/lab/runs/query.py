"""A small language of conditions on runs: ``optim_wrapper.optimizer.lr < 1e-3 and (seed = 0 or state != failed)``."""

import re
from collections.abc import Callable
from typing import Any

from mtl_plugins.errors import ConfigError
from mtl_plugins.records.record import MISSING, RunRecord

_TOKEN = re.compile(
    r"""\s*(?:(?P<op><=|>=|==|!=|[<>=~])|(?P<bracket>[()])|`(?P<key>[^`]+)`|(?P<quoted>'[^']*'|"[^"]*")|(?P<word>[^\s<>=!~()'"`]+))"""
)
_HOW = 'It should be KEY OP VALUE with <, <=, >, >=, =, != or ~ (contains), joined by and, or, not and brackets'
_WORDS = dict(true=True, false=False, none=None, null=None)
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

    def _any(self) -> Condition:
        parts = [self._all()]
        while self._take('word', 'or'):
            parts.append(self._all())
        return parts[0] if len(parts) == 1 else lambda run: any(part(run) for part in parts)

    def _all(self) -> Condition:
        parts = [self._one()]
        while self._take('word', 'and'):
            parts.append(self._one())
        return parts[0] if len(parts) == 1 else lambda run: all(part(run) for part in parts)

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
        operator = self._take('op') if key else None
        quoted = self._take('quoted') if operator else None
        value = quoted[1:-1] if quoted is not None else self._take('word') if operator else None
        if value is None:
            raise self._error(self._take())
        self.keys.append(key)
        return lambda run: _compare(run.get(key, MISSING), operator, value, quoted is not None)


def _compare(found: Any, operator: str, text: str, quoted: bool) -> bool:
    if operator == '~':
        items = found if isinstance(found, (list, dict)) else [] if found in (MISSING, None) else [found]
        return any(text.casefold() in str(item).casefold() for item in items)
    value = text if quoted else _value(text)
    found = None if found is MISSING else found
    if isinstance(found, str):
        value = text if value is not None else None
    if operator in ('=', '==', '!='):
        same = found == value and isinstance(found, bool) == isinstance(value, bool)
        return same == (operator != '!=')
    if (_is_number(found) and _is_number(value)) or (isinstance(found, str) and isinstance(value, str)):
        return {'<': found < value, '<=': found <= value, '>': found > value, '>=': found >= value}[operator]
    return False


def _value(text: str) -> Any:
    if text.casefold() in _WORDS:
        return _WORDS[text.casefold()]
    try:
        return float(text)
    except ValueError:
        return text


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
