"""Sweeps as their files state them: what is trained, and what is asked of the results."""

import hashlib
import itertools
import re
import threading
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from mmengine.config import Config

from mtl_plugins.config.links import check_score
from mtl_plugins.config.load import load_config
from mtl_plugins.errors import ConfigError
from mtl_plugins.evaluation.scores import SUMMARIES, SUMMARY_UNCLIPPED, TITLED, find_score
from mtl_plugins.records.config_data import as_data, hash_config
from mtl_plugins.utils.config_classes import suggest

GRID = 'GridSampler'
HELP = 'sweeps/README.md explains the format.'
LONGEST_NAME = 100
_ROW_KEYS = {'config', 'options', 'seeds', 'table', 'task_balancing'}
# mmengine reads configs through files and modules that are the process's.
_loading = threading.Lock()


@dataclass(frozen=True)
class Parameter:
    """Axis of the search space: the ``bounds`` of a range of a key, or named ``choices``, each with its overrides."""

    name: str
    choices: dict[Any, dict[str, Any]] = field(default_factory=dict)
    bounds: dict[str, Any] | None = None

    @property
    def first(self) -> Any:
        return next(iter(self.choices)) if self.bounds is None else self.bounds['low']

    def options(self, value: Any) -> dict[str, Any]:
        """Return the overrides of a value."""
        return self.choices[value] if self.bounds is None else {self.name: value}


@dataclass(frozen=True)
class Row:
    """Trainings of a config with options of their own, in the table of that title."""

    config: str
    options: dict[str, Any]
    seeds: tuple[int, ...]
    table: str


@dataclass(frozen=True)
class Point:
    """The trainings of one worker: a config with options, once with each seed.

    A listed point has one seed, a drawn one all of the sweep, whose score is a mean. ``params`` has a value for each parameter;
    None, and no options, if it is still to be drawn. Options have the wider keys first, so that the narrower ones refine them.
    """

    number: int
    name: str
    row: str
    seeds: tuple[int, ...]
    params: dict[str, Any] | None
    config: str
    options: dict[str, Any]

    @property
    def label(self) -> str:
        shown = [f'{name.split(".")[-1]} {shorten(value)}' for name, value in (self.params or {}).items()]
        return ', '.join(filter(None, [self.row, *shown]))

    def options_of(self, seed: int) -> dict[str, Any]:
        return {**self.options, 'randomness.seed': seed}


@dataclass(frozen=True, eq=False)
class Sweep:
    """A sweep file, whose keys are the fields but ``path``; see ``sweeps/README.md``."""

    path: Path
    config: str = ''
    about: str = ''
    space: dict[str, Any] = field(default_factory=dict)
    rows: dict[str, Row] = field(default_factory=dict)
    options: dict[str, Any] = field(default_factory=dict)
    seeds: tuple[int, ...] = (0,)
    sampler: dict[str, Any] = field(default_factory=lambda: dict(type=GRID))
    trials: int | None = None
    pruner: dict[str, Any] | None = None
    metric: str | None = None
    direction: str | None = None
    data: dict[str, Any] | None = None
    amp: bool = False
    baseline: bool = False
    targets: dict[str, float] = field(default_factory=dict)
    val_iters: int | None = None
    single_tasks: dict[str, str] = field(default_factory=dict)
    gain_metrics: dict[str, dict[str, str]] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return self.path.stem

    @property
    def is_listed(self) -> bool:
        """True if all points are known before anything ran."""
        return self.sampler['type'] == GRID

    @property
    def sign(self) -> int:
        return -1 if self.direction == 'minimize' else 1

    @property
    def definition(self) -> dict[str, Any]:
        """Everything on which the scores of drawn points depend, and so the next draws."""
        names = ('config', 'options', 'space', 'metric', 'direction', 'sampler', 'amp', 'data', 'seeds')
        return {**{name: getattr(self, name) for name in names}, 'config_hash': content_hash(self.base_of(''))}

    @cached_property
    def parameters(self) -> tuple[Parameter, ...]:
        return tuple(self._parameter(name, entry) for name, entry in self.space.items())

    @cached_property
    def points(self) -> list[Point]:
        """All points, seed by seed, so that an interrupted sweep has whole seeds."""
        if not self.is_listed:
            return [self.point(number, '', self.seeds, None) for number in range(self.trials)]
        values = itertools.product(*(parameter.choices for parameter in self.parameters))
        grid = [dict(zip(self.space, combination, strict=True)) for combination in values]
        seeds = dict.fromkeys([*self.seeds, *(seed for row in self.rows.values() for seed in row.seeds)])
        listed = [(name, (seed,), at) for seed in seeds for name, row in self.rows.items() if seed in row.seeds for at in grid]
        return [self.point(number, *entries) for number, entries in enumerate(listed[: self.trials])]

    def point(self, number: int, row: str, seeds: tuple[int, ...], params: dict[str, Any] | None) -> Point:
        """Return a point with its name and options."""
        options = {**self._shared, **self.rows[row].options} if params is not None else {}
        for parameter in self.parameters if params else ():
            options.update(parameter.options(params[parameter.name]))
        options = dict(sorted(options.items(), key=lambda item: item[0].count('.')))
        name = _file_name(row, params or {}) if self.is_listed else f'{number:04d}'
        return Point(number, name, row, seeds, params, self.rows[row].config, options)

    def load(self, config: str, options: Mapping[str, Any], data_root: Path | None = None) -> Config:
        with _loading:
            return load_config(locate(config, self.path), dict(options), data_root and str(data_root))

    def check(self) -> None:
        """Load the config of the first point of each row; `ConfigError` if an option names a key that does not exist."""
        first = {parameter.name: parameter.first for parameter in self.parameters}
        for name, row in self.rows.items():
            try:
                self.load(row.config, self.point(0, name, row.seeds, first).options)
            except (ConfigError, ValueError) as error:
                which = f'the row {name!r}' if name else 'the first trial'
                raise ConfigError(f'The sweep {self.path} gives {which} no valid config: {error}') from error

    @property
    def _shared(self) -> dict[str, Any]:
        ends = {'train_cfg.val_iters': self.val_iters, 'train_cfg.stop_at': self.targets} if self.targets else {}
        return {**ends, **self.options}

    @cached_property
    def _bases(self) -> dict[str, Config]:
        return {}

    def base_of(self, row: str) -> Config:
        """Return the config of a row before the space changes it."""
        if row not in self._bases:
            self._bases[row] = self.load(self.rows[row].config, {**self._shared, **self.rows[row].options})
        return self._bases[row]

    def _parameter(self, name: str, entry: Any) -> Parameter:
        place = f'`space[{name!r}]` of {self.path}'
        if isinstance(entry, (list, tuple)) and entry:
            # JSON cannot store everything.
            plain = (bool, int, float, str, type(None))
            return Parameter(name, {value if isinstance(value, plain) else str(value): {name: value} for value in entry})
        if isinstance(entry, dict) and entry and all(isinstance(options, dict) for options in entry.values()):
            return Parameter(name, entry)
        bounds = entry if isinstance(entry, dict) else {}
        numbers = all(isinstance(value, (int, float)) for value in bounds.values())
        if not numbers or not {'low', 'high'} <= bounds.keys() <= {'low', 'high', 'log', 'step'}:
            raise ConfigError(
                f'{place} is {entry!r}. It takes a list of values, `dict(low=, high=)` or a dict of named dicts of options.'
            )
        if self.is_listed:
            raise ConfigError(f"{place} is a range, but a grid takes values. Or set `sampler = dict(type='TPESampler')`.")
        return Parameter(name, bounds=bounds)


def read_sweep(path: Path) -> Sweep:
    """Read a sweep file: Python in mmengine's text style; names that begin with an underscore are its own.

    Raises:
        ConfigError: If the file is missing or broken, has an unknown key, or an entry is not what it should be.
    """
    if not path.is_file() or path.suffix != '.py':
        raise ConfigError(f'There is no sweep file {path}, a .py file. sweeps/README.md lists those that are shipped.')
    entries = {key: value for key, value in _read(path).items() if not key.startswith('_') and value is not None}
    known = {item.name for item in fields(Sweep)} - {'path'}
    for key in entries:
        if key not in known:
            raise ConfigError(f'Unknown key `{key}` in the sweep {path}.{suggest(key, known)}')
    _check_types(path, entries)
    entries['seeds'] = tuple(entries.get('seeds', Sweep.seeds))
    entries['rows'] = dict(_rows(path, entries))
    entries['targets'] = {find_score(name, SUMMARIES) or name: float(goal) for name, goal in entries.get('targets', {}).items()}
    if entries.get('space') and not entries.get('single_tasks'):
        # A space is searched for one score; rows are compared by all.
        entries.setdefault('metric', SUMMARY_UNCLIPPED)
    sweep = _with_score(Sweep(path=path, **entries))
    _check(sweep)
    return sweep


def locate(config: str, sweep: Path) -> str:
    """Return the path as given if it is one from the current folder, else from the nearest folder above the sweep file."""
    folders = [Path(), *sweep.resolve().parents]
    return next((str(folder / config) for folder in folders if (folder / config).is_file()), config)


def content_hash(config: Config) -> str:
    """Return the hash of what matters in a config, the same for all seeds."""
    return hash_config(as_data(config.to_dict()))


def shorten(value: Any) -> str:
    """Return a number with four digits, anything else as text."""
    return f'{value:.4g}' if isinstance(value, float) else str(value)


def _file_name(row: str, params: Mapping[str, Any]) -> str:
    words = ''.join(letter if letter.isalnum() else ' ' for letter in row).split()
    values = [re.sub(r'[^\w.+-]+', '-', f'{name.split(".")[-1]}-{value}') for name, value in params.items()]
    name = '-'.join([*words, *values])
    digest = hashlib.sha256(name.encode()).hexdigest()[:8]
    return name if len(name) <= LONGEST_NAME else f'{name[: LONGEST_NAME - 9]}-{digest}'


def _read(path: Path | str) -> dict[str, Any]:
    try:
        return Config.fromfile(str(path)).to_dict()
    except (SyntaxError, NameError, KeyError, TypeError, OSError) as error:
        raise ConfigError(f'{path} cannot be read: {type(error).__name__}: {str(error).splitlines()[0]}') from error


def _rows(path: Path, entries: Mapping[str, Any]) -> Iterator[tuple[str, Row]]:
    """Yield the rows of a file, or one without a name for the sweep itself."""
    for name, entry in (entries.get('rows', {'': {}})).items():
        place = f'The row {name!r} of the sweep {path}' if name else f'The sweep {path}'
        if not isinstance(entry, dict) or entry.keys() - _ROW_KEYS or not isinstance(name, str) or not name.isprintable():
            raise ConfigError(f'{place} is {entry!r}. It takes a printable name and a dict of {", ".join(sorted(_ROW_KEYS))}.')
        _check_types(path, entry)
        config = entry.get('config') or entries.get('config')
        if not config:
            raise ConfigError(f'{place} states no `config`. {HELP}')
        options, balancing = dict(entry.get('options', {})), entry.get('task_balancing')
        if isinstance(balancing, str):
            balancing = _read(locate(balancing, path)).get('task_balancing')
        if isinstance(balancing, dict):
            options['model.task_balancing'] = {'_delete_': True, **balancing}
        elif 'task_balancing' in entry:
            raise ConfigError(f'{place}: {entry["task_balancing"]} sets no `task_balancing`.')
        yield name, Row(config, options, tuple(entry.get('seeds', entries['seeds'])), entry.get('table', ''))


def _with_score(sweep: Sweep) -> Sweep:
    """Return the sweep with the full name of its metric, and the direction that is better."""
    metric, direction = sweep.metric, sweep.direction
    for row in sweep.rows if metric else ():
        base = None
        # What is wrong with a config is told by `check`.
        with suppress(ConfigError):
            base = sweep.base_of(row)
        if base is not None:
            metric, rule = check_score(base, f'`metric` of the sweep {sweep.path}', sweep.metric)
            better = dict(greater='maximize', less='minimize').get(rule, direction)
            if direction not in (None, better):
                raise ConfigError(
                    f'`direction` of the sweep {sweep.path} is {direction!r}, but {better!r} is better for {metric}.'
                )
            direction = better
    return replace(sweep, metric=metric, direction=direction or 'maximize')


def _check_types(path: Path, entries: Mapping[str, Any]) -> None:
    numbers = {'train', 'val', 'test', 'size', 'seed'}
    wanted = dict(
        config=(str, 'the path of a config', bool),
        seeds=((list, tuple), 'a list of seeds', lambda seeds: seeds and all(type(seed) is int and seed >= 0 for seed in seeds)),
        sampler=(dict, "dict(type='...') of a sampler", lambda entry: isinstance(entry.get('type'), str)),
        pruner=(dict, "dict(type='...') of a pruner", lambda entry: isinstance(entry.get('type'), str)),
        trials=(int, 'a positive integer', lambda number: number > 0),
        val_iters=(int, 'the iterations between validations', lambda number: number > 0),
        direction=(str, "'maximize' or 'minimize'", lambda word: word in ('maximize', 'minimize')),
        data=(dict, 'dict(train=, val=, test=, size=, seed=)', lambda data: numbers <= data.keys() <= {*numbers, 'labels'}),
        targets=(dict, 'scores by name', lambda goals: all(isinstance(goal, (int, float)) for goal in goals.values())),
        **{name: (dict, 'a dict', None) for name in ('space', 'rows', 'options', 'single_tasks', 'gain_metrics')},
        **{name: (bool, 'True or False', None) for name in ('amp', 'baseline')},
        **{name: (str, 'a text', None) for name in ('about', 'metric', 'table')},
    )
    for name, (kind, text, accepts) in wanted.items():
        if name in entries and not (isinstance(entries[name], kind) and (accepts is None or accepts(entries[name]))):
            raise ConfigError(f'`{name}` of the sweep {path} takes {text}. Found {entries[name]!r}.')


def _check(sweep: Sweep) -> None:
    rows, singles = set(sweep.rows), set(sweep.single_tasks.values())
    target = next((name for name in sweep.targets if name not in SUMMARIES), '')
    names: dict[tuple, Point] = {}
    problems = {
        f'states neither `space` nor `rows`. {HELP}': not sweep.space and '' in rows,
        f'has rows, but {sweep.sampler["type"]} draws points of a `space`.': not sweep.is_listed
        and not ('' in rows and sweep.space),
        f'needs `trials`: how many points {sweep.sampler["type"]} draws.': not sweep.is_listed and sweep.trials is None,
        'needs `metric`, by which its `pruner` goes.': sweep.pruner and sweep.metric is None,
        'needs both `targets` and `val_iters`, or neither.': bool(sweep.targets) != (sweep.val_iters is not None),
        f'has a target for {target!r}.{suggest(target, TITLED.values())}': target,
        f'needs a row for each of `single_tasks`, and another one. Found {", ".join(sweep.rows)}.': singles
        and not singles < rows,
        'has `gain_metrics` of other tasks than `single_tasks`.': not sweep.gain_metrics.keys() <= sweep.single_tasks.keys(),
    }
    for sentence, is_so in problems.items():
        if is_so:
            raise ConfigError(f'The sweep {sweep.path} {sentence}')
    if not sweep.is_listed or sweep.pruner:
        from mtl_plugins.lab.experiments.drawing import check_classes

        check_classes(sweep)
    for point in sweep.points:
        other = names.setdefault((point.name.lower(), point.seeds), point)
        if other is not point or not point.name:
            raise ConfigError(
                f'Names in the sweep {sweep.path} must differ by a letter or digit. Found {other.label!r} and {point.label!r}.'
            )
