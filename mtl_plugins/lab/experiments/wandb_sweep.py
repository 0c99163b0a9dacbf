"""The same sweep for the agents of Weights & Biases."""

import ast
import os
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from mtl_plugins.config.load import suggest
from mtl_plugins.errors import ConfigError, UserError
from mtl_plugins.lab.experiments.definition import GRID, Parameter, Sweep
from mtl_plugins.lab.experiments.training import train_run
from mtl_plugins.utils.files import make_folder, replacing

METHODS = {GRID: 'grid', 'RandomSampler': 'random', 'TPESampler': 'bayes'}
FILE_NAME = 'wandb_sweep.yaml'
SEED = 'seed'
BACKEND = dict(type='WandbVisBackend')


def wandb_config(sweep: Sweep, arguments: Sequence[str] = ()) -> dict[str, Any]:
    """What ``wandb.sweep`` takes: an agent runs ``tools/sweep.py SWEEP --trial KEY=VALUE ...``, which trains one point.

    The seed is a parameter like the others. Of pruners, W&B knows Hyperband alone.

    Args:
        sweep: The sweep.
        arguments: More for ``tools/sweep.py``, such as ``--data-root DATA``.

    Raises:
        ConfigError: If W&B has no such sampler or pruner.
    """
    method = METHODS.get(sweep.sampler['type'])
    if method is None:
        raise ConfigError(f'`sampler.type` should be one of {", ".join(METHODS)} for W&B. Found {sweep.sampler["type"]}.')
    config = dict(
        name=sweep.name,
        description=sweep.about,
        method=method,
        metric=dict(name=sweep.metric, goal=sweep.direction),
        parameters={**{item.name: _parameter(item) for item in sweep.parameters}, SEED: dict(values=list(sweep.seeds))},
        program='tools/sweep.py',
        command=[
            '${env}',
            '${interpreter}',
            '${program}',
            str(sweep.path),
            *arguments,
            '--trial',
            '${args_no_hyphens}',
        ],
    )
    if sweep.trials is not None:
        config['run_cap'] = sweep.trials
    if sweep.pruner is not None:
        if sweep.pruner['type'] != 'HyperbandPruner':
            raise ConfigError(f'`pruner.type` should be HyperbandPruner for W&B, or None. Found {sweep.pruner["type"]}.')
        config['early_terminate'] = dict(type='hyperband', min_iter=1, eta=sweep.pruner.get('reduction_factor', 3))
    return config


def make_wandb_sweep(sweep: Sweep, project: str, work_dir: Path, arguments: Sequence[str] = ()) -> str:
    """Write the config as YAML into the work dir, and register the sweep unless ``WANDB_MODE`` is ``offline``.

    Returns:
        The command for the agents; offline, or where W&B refuses, the one that registers the file.
    """
    config = wandb_config(sweep, arguments)
    path = work_dir / FILE_NAME
    with replacing(path) as temporary:
        temporary.write_text(yaml.safe_dump(config, sort_keys=False), encoding='utf-8')
    later = shlex.join(['wandb', 'sweep', '--project', project, str(path)])
    if os.environ.get('WANDB_MODE') in ('offline', 'disabled'):
        return later
    try:
        import wandb
    except ImportError as error:
        raise UserError(f"{path} is written. To register it, install wandb: pip install -e '.[tracking]'.") from error
    try:
        return f'wandb agent {wandb.sweep(config, project=project)}'
    except wandb.errors.Error as error:
        raise UserError(f'W&B refused: {str(error).splitlines()[0]} {path} is written; later: {later}') from error


def parse_trial(sweep: Sweep, assignments: Sequence[str]) -> tuple[dict[str, Any], int]:
    """Parameters and seed from ``KEY=VALUE`` as an agent passes them.

    Raises:
        ConfigError: If one is not ``KEY=VALUE``, is unknown, missing, or not among the values of the sweep.
    """
    texts = dict(item.partition('=')[::2] for item in assignments)
    known = {item.name: item for item in sweep.parameters}
    for key in texts:
        if key not in known and key != SEED:
            raise ConfigError(f'`--trial {key}`: no parameter of {sweep.path}.{suggest(key, {*known, SEED})}')
    missing = known.keys() - texts.keys()
    if missing:
        raise ConfigError(f'`--trial` should give every parameter of {sweep.path}. Found none for {sorted(missing)[0]!r}.')
    seed = texts.get(SEED, str(sweep.seeds[0]))
    if not seed.isdecimal():
        raise ConfigError(f'`--trial seed=` should be a whole number. Found {seed!r}.')
    return {name: _value(item, texts[name]) for name, item in known.items()}, int(seed)


def train_trial(sweep: Sweep, assignments: Sequence[str], data_root: Path | None, work_dir: Path) -> None:
    """Train the point that an agent of W&B chose, in this process, logging to the agent's run.

    The folder of the training has the name of that run, so that one that is restarted goes on.
    """
    params, seed = parse_trial(sweep, assignments)
    folder = work_dir / 'wandb' / os.environ.get('WANDB_RUN_ID', f'seed{seed}')
    make_folder(folder)
    options = sweep.options_of(params, seed)
    order = dict(config=sweep.config, options=options, data_root=data_root and str(data_root), amp=sweep.amp)
    train_run(order, folder, BACKEND)


def _value(parameter: Parameter, text: str) -> Any:
    if parameter.bounds is None:
        for label in parameter.labels:
            if str(label) == text or (isinstance(label, (int, float)) and _number(text) == label):
                return label
        listed = ', '.join(map(str, parameter.labels))
        raise ConfigError(f'`--trial {parameter.name}=` should be one of {listed}. Found {text!r}.')
    number = _number(text)
    if number is None or not parameter.bounds['low'] <= number <= parameter.bounds['high']:
        raise ConfigError(
            f'`--trial {parameter.name}=` should be a number from {parameter.bounds["low"]} to {parameter.bounds["high"]}. '
            f'Found {text!r}.'
        )
    return int(number) if parameter.is_integer else float(number)


def _number(text: str) -> float | int | None:
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return None
    return value if isinstance(value, (int, float)) else None


def _parameter(item: Parameter) -> dict[str, Any]:
    if item.bounds is None:
        return dict(values=list(item.labels))
    low, high, step = item.bounds['low'], item.bounds['high'], item.bounds.get('step')
    if item.bounds.get('log'):
        # W&B draws no whole numbers on a logarithmic scale but as multiples of q.
        kind = dict(distribution='q_log_uniform_values', q=1) if item.is_integer else dict(distribution='log_uniform_values')
    elif item.is_integer:
        kind = dict(distribution='int_uniform') if step in (None, 1) else dict(distribution='q_uniform', q=step)
    else:
        kind = dict(distribution='uniform') if step is None else dict(distribution='q_uniform', q=step)
    return {**kind, 'min': low, 'max': high}
