"""Draws and pruning by Optuna. A study is made anew from what is known of all points whenever one is needed."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import FrozenTrial, TrialState, create_trial

from mtl_plugins.errors import ConfigError
from mtl_plugins.lab.experiments.definition import GRID, Parameter, Sweep
from mtl_plugins.utils.config_classes import accepted_arguments, suggest

# They keep their place in a study, or are made of other samplers and pruners.
_REFUSED = ('BaseSampler', 'BaseGASampler', 'PartialFixedSampler', 'QMCSampler', 'BasePruner', 'PatientPruner')
_STATES = dict(complete=TrialState.COMPLETE, pruned=TrialState.PRUNED, running=TrialState.RUNNING)

optuna.logging.set_verbosity(optuna.logging.WARNING)


def check_classes(sweep: Sweep) -> None:
    """Refuse a sampler or pruner that Optuna has not, or cannot make of the arguments, and a range that is none."""
    for name in ('sampler', 'pruner'):
        entry, module = getattr(sweep, name), getattr(optuna, f'{name}s')
        if entry is None or entry['type'] == GRID:
            continue
        known = [item for item in module.__all__ if item.endswith(name.capitalize()) and item not in _REFUSED]
        if entry['type'] not in known:
            raise ConfigError(f'`{name}.type` of {sweep.path} is {entry["type"]}.{suggest(entry["type"], known)}')
        try:
            _build(module, entry)
        except (ImportError, TypeError, ValueError) as error:
            raise ConfigError(f'`{name}` of {sweep.path} cannot be made: {error}') from error
    for parameter in sweep.parameters:
        try:
            _distribution(parameter)
        except ValueError as error:
            raise ConfigError(f'`space[{parameter.name!r}]` of {sweep.path}: {error}') from error


def draw(sweep: Sweep, records: Sequence[Mapping[str, Any]], number: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the parameters of a point, and what the sampler wants to be remembered of it.

    The draw depends on the seed of the sampler, the number of the point and the records of earlier points, not on who draws.
    """
    entry = dict(sweep.sampler)
    if 'seed' in (accepted_arguments(getattr(optuna.samplers, entry['type'])) or ()):
        entry['seed'] = int(np.random.SeedSequence([entry.get('seed') or 0, number]).generate_state(1)[0])
    study = _study(sweep, records[:number], _build(optuna.samplers, entry))
    trial = study.ask({parameter.name: _distribution(parameter) for parameter in sweep.parameters})
    return trial.params, study.get_trials()[number].system_attrs


def is_hopeless(sweep: Sweep, records: Sequence[Mapping[str, Any]], number: int) -> tuple[bool, dict[str, Any]]:
    """Return True if the pruner gives up a point after its latest report, and what it wants to be remembered of the point."""
    own = records[number]
    study = _study(sweep, records[:number], optuna.samplers.RandomSampler(seed=0))
    study.enqueue_trial(own['params'])
    trial = study.ask()
    study.add_trials([_frozen(sweep, record) for record in records[number + 1 :]])
    hopeless = False
    for step, value in own['reports'].items():
        trial.report(value, int(step))
        hopeless = trial.should_prune()
    attrs = study.get_trials()[number].system_attrs
    return hopeless, {**own['attrs'], **{key: value for key, value in attrs.items() if key != 'fixed_params'}}


def _study(sweep: Sweep, records: Sequence[Mapping[str, Any]], sampler: optuna.samplers.BaseSampler) -> optuna.Study:
    pruner = _build(optuna.pruners, sweep.pruner or dict(type='NopPruner'))
    study = optuna.create_study(study_name='sweep', direction=sweep.direction, sampler=sampler, pruner=pruner)
    study.add_trials([_frozen(sweep, record) for record in records])
    return study


def _build(module: Any, entry: Mapping[str, Any]) -> Any:
    return getattr(module, entry['type'])(**{key: value for key, value in entry.items() if key != 'type'})


def _frozen(sweep: Sweep, record: Mapping[str, Any]) -> FrozenTrial:
    """Return a point as a trial; one of which nothing is known keeps its place as one that failed."""
    params = record['params'] or {}
    return create_trial(
        state=_STATES.get(record['state'], TrialState.FAIL),
        value=record['score'],
        params=params,
        distributions={item.name: _distribution(item) for item in sweep.parameters if item.name in params},
        intermediate_values={int(step): value for step, value in record['reports'].items()},
        system_attrs=record['attrs'],
    )


def _distribution(parameter: Parameter) -> BaseDistribution:
    if parameter.bounds is None:
        return CategoricalDistribution(tuple(parameter.choices))
    whole = all(isinstance(parameter.bounds[key], int) for key in ('low', 'high'))
    return (IntDistribution if whole else FloatDistribution)(**parameter.bounds)
