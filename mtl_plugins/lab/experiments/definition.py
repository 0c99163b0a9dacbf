"""A sweep as its file states it."""

import dataclasses
import itertools
import pkgutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from mmengine.config import Config

from mtl_plugins.config.links import check_score
from mtl_plugins.config.load import accepted_arguments, load_config, suggest
from mtl_plugins.config.mmseg_config import PACKAGE
from mtl_plugins.errors import ConfigError
from mtl_plugins.lab.experiments.couplings import couplings_of
from mtl_plugins.lab.experiments.run import Point, Run
from mtl_plugins.records.config_data import as_data, hash_config

ROOT = Path(__file__).resolve().parents[3]
GRID = 'GridSampler'
DEFAULTS = dict(
    about='',
    options={},
    seeds=[0],
    sampler=dict(type=GRID),
    trials=None,
    pruner=None,
    metric='metrics_summary/multitask_unclipped',
    direction=None,
    data=None,
    amp=False,
)
RANGE_KEYS = {'low', 'high', 'log', 'step', 'function'}


@dataclass(frozen=True)
class Parameter:
    """One axis of the search space: ``labels`` to choose from, or ``bounds`` as Optuna's ``suggest_*`` take them."""

    name: str
    settings: Callable[[Any], dict[str, Any]]
    labels: tuple = ()
    bounds: dict[str, Any] | None = None

    @property
    def first(self) -> Any:
        return self.labels[0] if self.bounds is None else self.bounds['low']

    @property
    def is_integer(self) -> bool:
        return self.bounds is not None and isinstance(self.bounds['low'], int) and isinstance(self.bounds['high'], int)

    def suggest(self, trial: Any) -> Any:
        """The value that an Optuna trial has or gets."""
        if self.bounds is None:
            return trial.suggest_categorical(self.name, self.labels)
        return (trial.suggest_int if self.is_integer else trial.suggest_float)(self.name, **self.bounds)


@dataclass(frozen=True)
class Sweep:
    """A base config, what is varied, and how. See ``sweeps/README.md`` for the file.

    Args:
        path: The file.
        config: Base config.
        options: Overrides for all trials.
        space: As in the file.
        seeds: Each point is trained with each; a sampler that draws points counts their mean.
        sampler, pruner: ``type``, a class of Optuna's, and its arguments.
        trials: How many points are drawn; of a grid, how many trials at most.
        metric, direction: Score of the validation, ``'maximize'`` or ``'minimize'``, by default whichever is better.
        data: Numbers of a data set to generate where none is given.
        amp: bfloat16 where the device has it.
    """

    path: Path
    about: str
    config: str
    options: dict[str, Any]
    space: dict[str, Any]
    seeds: list[int]
    sampler: dict[str, Any]
    trials: int | None
    pruner: dict[str, Any] | None
    metric: str
    direction: str
    data: dict[str, Any] | None
    amp: bool

    @property
    def name(self) -> str:
        return self.path.stem

    @property
    def is_grid(self) -> bool:
        return self.sampler['type'] == GRID

    @property
    def definition(self) -> dict[str, Any]:
        """What must not change between two starts of the same sweep."""
        # A grid may get further seeds, but the score of a drawn point is a mean over all.
        return dict(
            config=self.config,
            options=self.options,
            space=self.space,
            metric=self.metric,
            direction=self.direction,
            sampler=self.sampler,
            amp=self.amp,
            data=self.data,
            seeds=None if self.is_grid else self.seeds,
            config_hash=hash_config(as_data(self.base.to_dict())),
        )

    @cached_property
    def base(self) -> Config:
        return load_config(self.config, dict(self.options))

    @cached_property
    def parameters(self) -> tuple[Parameter, ...]:
        return tuple(self._parameter(name, entry) for name, entry in self.space.items())

    def points(self) -> list[Point]:
        """The trials of a grid, seed by seed, so that an interrupted sweep has whole seeds; none for other samplers."""
        if not self.is_grid:
            return []
        values = itertools.product(*(parameter.labels for parameter in self.parameters))
        grid = [dict(zip(self.space, combination, strict=True)) for combination in values]
        points = [Point(f'{params} seed {seed}', seed, params) for seed in self.seeds for params in grid]
        return points[: self.trials]

    def options_of(self, params: dict[str, Any], seed: int) -> dict[str, Any]:
        """Overrides of a point; the wider keys first, so that the narrower ones refine them."""
        options = dict(self.options)
        for parameter in self.parameters:
            options.update(parameter.settings(params[parameter.name]))
        return {**dict(sorted(options.items(), key=lambda item: item[0].count('.'))), 'randomness.seed': seed}

    def suggest(self, trial: Any) -> dict[str, Any]:
        """The parameters of an Optuna trial, drawn where they are not yet."""
        return {parameter.name: parameter.suggest(trial) for parameter in self.parameters}

    def runs(self, trial: Any, work_dir: Path) -> list[Run]:
        """The trainings of an Optuna trial."""
        params = self.suggest(trial)
        seeds = [trial.user_attrs['seed']] if self.is_grid else self.seeds
        label = ', '.join(f'{name.split(".")[-1]} {shorten(value)}' for name, value in params.items())
        number = trial.user_attrs.get('origin', trial.number)
        runs = []
        for seed in seeds:
            name = f'{number:04d}_seed{seed}'
            folder = work_dir / 'trials' / name
            runs.append(Run(name, label, seed, self.config, self.options_of(params, seed), folder, folder / 'result.json'))
        return runs

    def check(self) -> None:
        """Build the config of the first trial.

        Raises:
            ConfigError: If an entry of the space names a key that does not exist.
        """
        try:
            first = {parameter.name: parameter.first for parameter in self.parameters}
            load_config(self.config, self.options_of(first, self.seeds[0]))
        except (ConfigError, ValueError) as error:
            raise ConfigError(f'The first trial of the sweep {self.path} has no valid config: {error}') from error

    def _parameter(self, name: str, entry: Any) -> Parameter:
        def refuse() -> ConfigError:
            return ConfigError(
                f'`space[{name!r}]` of {self.path} should be a list of values, `dict(low=, high=)`, `dict(values=, function=)` '
                f'or a dict of named dicts of options. Found {entry!r}.'
            )

        if isinstance(entry, (list, tuple)) and entry:
            labels = {label_of(value): value for value in entry}
            return Parameter(name, lambda label: {name: labels[label]}, tuple(labels))
        if not isinstance(entry, dict) or not entry:
            raise refuse()
        if all(isinstance(options, dict) for options in entry.values()):
            return Parameter(name, lambda label: entry[label], tuple(entry))
        settings = self._function(name, entry) if 'function' in entry else lambda value: {name: value}
        if entry.keys() == {'values', 'function'} and isinstance(entry['values'], (list, tuple)) and entry['values']:
            return Parameter(name, settings, tuple(entry['values']))
        bounds = {key: value for key, value in entry.items() if key != 'function'}
        numbers = [value for key, value in bounds.items() if key != 'log']
        if not {'low', 'high'} <= entry.keys() <= RANGE_KEYS or not all(isinstance(value, (int, float)) for value in numbers):
            raise refuse()
        if bounds['low'] >= bounds['high'] or (bounds.get('log') and bounds['low'] <= 0):
            raise ConfigError(
                f'`space[{name!r}]` of {self.path} should have low < high, and low > 0 if log. '
                f'Found {bounds["low"]} and {bounds["high"]}.'
            )
        if self.is_grid:
            raise ConfigError(
                f'`space[{name!r}]` of {self.path} should list values, since a grid has no ranges. Found {entry!r}. '
                "Or set `sampler = dict(type='TPESampler')`."
            )
        return Parameter(name, settings, bounds=bounds)

    def _function(self, name: str, entry: dict) -> Callable[[Any], dict[str, Any]]:
        given = entry['function']
        known = couplings_of(self.base)
        function = known.get(str(given))
        if function is None and ':' in str(given):
            try:
                function = pkgutil.resolve_name(given)
            except (ImportError, AttributeError, ValueError):
                function = None
        if not callable(function):
            raise ConfigError(
                f'`function` of `space[{name!r}]` in {self.path} should be a coupling or `module:function`. Found {given!r}.'
                f'{suggest(str(given), known)}'
            )
        return lambda value: function(value, self.base)


def read_sweep(path: Path) -> Sweep:
    """A sweep file: Python in mmengine's text style; names that begin with an underscore are its own.

    Raises:
        ConfigError: If the file is missing or broken, has an unknown key, or an entry is not what it should be.
    """
    if not path.is_file() or path.suffix != '.py':
        raise ConfigError(f'The sweep {path} should be an existing .py file. sweeps/README.md lists what there is.')
    try:
        entries = Config.fromfile(str(path)).to_dict()
    except (SyntaxError, NameError, KeyError, TypeError, FileNotFoundError) as error:
        raise ConfigError(f'The sweep {path} cannot be read: {type(error).__name__}: {str(error).splitlines()[0]}') from error
    entries = {key: value for key, value in entries.items() if not key.startswith('_')}
    known = {'config', 'space', *DEFAULTS}
    for key in entries:
        if key not in known:
            raise ConfigError(f'Unknown key `{key}` in the sweep {path}.{suggest(key, known)}')
    for key in ('config', 'space'):
        if not entries.get(key):
            raise ConfigError(f'The sweep {path} should state `{key}`. sweeps/README.md explains the format.')
    sweep = Sweep(path=path, **{**DEFAULTS, **entries, 'config': find_config(entries['config'])})
    _check_entries(sweep)
    return _with_score(sweep)


def _with_score(sweep: Sweep) -> Sweep:
    """The sweep with the full name of its metric, and its direction.

    Raises:
        ConfigError: If the base config's validation has no such score, or the worst value would be looked for.
    """
    try:
        base = sweep.base
    except ConfigError:
        # `check` tells what is wrong with it.
        return sweep if sweep.direction else dataclasses.replace(sweep, direction='maximize')
    metric, rule = check_score(base, f'`metric` of the sweep {sweep.path}', sweep.metric)
    better = {'greater': 'maximize', 'less': 'minimize'}.get(rule)
    if sweep.direction and better and sweep.direction != better:
        raise ConfigError(
            f'`direction` of the sweep {sweep.path} should be {better!r} for {metric}, or be left out. Found {sweep.direction!r}.'
        )
    return dataclasses.replace(sweep, metric=metric, direction=sweep.direction or better or 'maximize')


def find_config(config: str) -> str:
    """The path as given if it is one from the current folder (or a config of mmseg), else from that of this project."""
    if config.startswith(PACKAGE) or Path(config).is_file() or not (ROOT / config).is_file():
        return config
    return str(ROOT / config)


def label_of(value: Any) -> Any:
    """The value itself if Optuna can store it, else its text."""
    return value if value is None or isinstance(value, (bool, int, float, str)) else str(value)


def shorten(value: Any) -> str:
    """A number with four digits, anything else as text."""
    return f'{value:.4g}' if isinstance(value, float) else str(value)


def _check_entries(sweep: Sweep) -> None:
    for condition, name, wanted in _expectations(sweep):
        if not condition:
            raise ConfigError(f'`{name}` of the sweep {sweep.path} should be {wanted}. Found {getattr(sweep, name)!r}.')
    for name in ('sampler', 'pruner'):
        if getattr(sweep, name) is not None:
            optuna_class(sweep, name)
    if not sweep.is_grid and sweep.trials is None:
        raise ConfigError(
            f'`trials` of the sweep {sweep.path} should say how many points {sweep.sampler["type"]} draws. Found None.'
        )
    _ = sweep.parameters


def _expectations(sweep: Sweep) -> Iterator[tuple[bool, str, str]]:
    def is_natural(value: Any, least: int) -> bool:
        return isinstance(value, int) and not isinstance(value, bool) and value >= least

    yield isinstance(sweep.config, str), 'config', 'the path of a config'
    yield isinstance(sweep.space, dict), 'space', 'a dict'
    yield isinstance(sweep.options, dict), 'options', 'a dict of overrides by dotted key'
    yield (
        isinstance(sweep.seeds, (list, tuple)) and bool(sweep.seeds) and all(is_natural(seed, 0) for seed in sweep.seeds),
        'seeds',
        'a list of seeds',
    )
    yield sweep.trials is None or is_natural(sweep.trials, 1), 'trials', 'a positive integer'
    yield sweep.direction in ('maximize', 'minimize', None), 'direction', "'maximize' or 'minimize'"
    yield isinstance(sweep.metric, str), 'metric', 'the name of a score'
    numbers = {'train', 'val', 'test', 'size', 'seed'}
    yield (
        sweep.data is None or (isinstance(sweep.data, dict) and numbers <= sweep.data.keys() <= {*numbers, 'labels'}),
        'data',
        'None or dict(train=, val=, test=, size=, seed=)',
    )
    for name in ('sampler', 'pruner'):
        entry = getattr(sweep, name)
        optional = name == 'pruner' and entry is None
        yield optional or (isinstance(entry, dict) and isinstance(entry.get('type'), str)), name, f"dict(type='...') of a {name}"


def optuna_class(sweep: Sweep, name: str) -> type:
    """The class of Optuna's that ``sampler`` or ``pruner`` names, its arguments checked.

    Raises:
        ConfigError: If Optuna is not installed, has no such class, or the class does not take an argument.
    """
    try:
        import optuna
    except ImportError as error:
        raise ConfigError("Sweeps need Optuna. Install it: pip install -e '.[sweep]'.") from error
    module = getattr(optuna, f'{name}s')
    entry = getattr(sweep, name)
    known = [item for item in module.__all__ if item.endswith(name.capitalize()) and not item.startswith('Base')]
    if entry['type'] not in known:
        raise ConfigError(
            f'`{name}.type` of the sweep {sweep.path} is no class of Optuna: {entry["type"]}.{suggest(entry["type"], known)}'
        )
    cls = getattr(module, entry['type'])
    accepted = (accepted_arguments(cls) or set()) - ({'search_space'} if entry['type'] == GRID else set())
    for key in entry.keys() - {'type'}:
        if key not in accepted:
            raise ConfigError(f'`{name}` of the sweep {sweep.path}: {entry["type"]} takes no `{key}`.{suggest(key, accepted)}')
    return cls
