"""Loading a config with overrides that cannot silently miss."""

import argparse
import ast
import copy
import difflib
import functools
import inspect
import logging
import os
import traceback
import types
from pathlib import Path
from typing import Any

import mmseg
from mmengine.config import Config, ConfigDict, DictAction
from mmengine.config.lazy import LazyAttr, LazyObject
from mmengine.config.utils import MODULE2PACKAGE
from mmengine.logging import print_log

from mtl_plugins.config.links import (
    drop_tasks,
    link_labels,
    link_scores,
    place_task_balancing,
    set_data_root,
    set_missing_tasks,
)
from mtl_plugins.datasets.multitask.split_listing import check_root
from mtl_plugins.errors import ConfigError, UserError
from mtl_plugins.labels.presets import build_labels, miniscapes_labels
from mtl_plugins.records.config_data import refuse_secrets
from mtl_plugins.registry import SCOPE
from mtl_plugins.utils.config_classes import accepted_arguments, any_class, name_of, own_class, suggest, typed_dicts
from mtl_plugins.utils.data_files import shorten

DATA_ROOT_VARIABLE = 'MTL_DATA_ROOT'
_LOOP, _PART = (dict, 'a dict'), (dict, 'a dict with a `type`')
# Kinds of top-level entries, and those for which the Runner has a default.
ENTRIES: dict[str, tuple[Any, str]] = {
    **dict.fromkeys(('model', 'optim_wrapper', 'visualizer', 'tta_model', 'log_processor'), _PART),
    **dict.fromkeys(('train_cfg', 'val_cfg', 'test_cfg', 'default_hooks', 'env_cfg', 'randomness', 'submission'), _LOOP),
    **dict.fromkeys(('val_evaluator', 'test_evaluator', 'param_scheduler'), ((dict, list, tuple), 'a dict or a list of them')),
    'custom_hooks': ((list, tuple), 'a list of dicts with a `type`'),
    'custom_imports': (dict, "dict(imports=['module'])"),
    **dict.fromkeys(('default_scope', 'runner_type', 'log_level', 'work_dir', 'launcher'), (str, 'a text')),
}
# Read by this package, beside those of mmengine's Runner.
OWN_ENTRIES = ('name', 'team', 'team_prefix', 'compile', 'reschedule', 'task_balancing')
LEVELS = ('DEBUG', 'INFO', 'WARNING', 'ERROR', 'CRITICAL')
DEFAULTED = ('default_hooks', 'custom_hooks', 'env_cfg', 'randomness', 'log_level', 'log_processor', 'launcher', 'runner_type')

PACKAGE = Path(__file__).resolve().parents[1]
# Of the installed package; where links to folders are not supported, of the clone.
CONFIGS = next((path for path in (PACKAGE / '.mim/configs', PACKAGE.parent / 'configs') if path.is_dir()), PACKAGE).resolve()
# Configs of users have `mtl_plugins::joint/NAME.py` as a base.
OWN = f'{SCOPE}::'
MODULE2PACKAGE[SCOPE] = SCOPE

MMSEG = 'mmseg::'
# Data, metric and runtime of a config that is named on the command line.
MMSEG_TEMPLATE = CONFIGS / '_base_/mmseg_miniscapes_256x256.py'
# What a config takes from mmseg's where it does not say otherwise.
MMSEG_SCHEDULE = ('optim_wrapper', 'param_scheduler', 'train_cfg')


def load_config(
    path: str | Path,
    cfg_options: dict[str, Any] | None = None,
    data_root: str | Path | None = None,
    *,
    epochs: int | None = None,
    batch_size: int | None = None,
    lr: float | None = None,
    size: tuple[int, int] | None = None,
    seed: int | None = None,
    amp: bool = False,
    work_dir: str | Path | None = None,
    resume: bool | str | Path = False,
    reschedule: bool = False,
    submission: bool = True,
) -> Config:
    """Read a config file, apply overrides and check the arguments of every class of this package in it.

    Args:
        path: A config in mmengine's text style or in its new one (``read_base``, classes as types), the name of a config of this
            package, see :func:`find_config_file`, or a whole config of mmseg, ``mmseg::<folder>/<file>.py``.
        cfg_options: Overrides by dotted key, e.g. ``{'train_dataloader.batch_size': 8}``; list items by index. A task that is
            None, as ``{'model.tasks.depth': None}``, is dropped.
        data_root: Replaces the data root of all data sets; the environment variable ``MTL_DATA_ROOT`` does the same.
        epochs: Length of the training; schedules that end with the last epoch still do.
        batch_size: Training images at a time, in each process.
        lr: Learning rate of the optimizer.
        size: Height and width of the training crops.
        seed: Seed of weights, order and augmentation; random by default.
        amp: Train in mixed precision: bfloat16 where it is supported, else float16.
        work_dir: Folder for logs and checkpoints; by default that of the config, or ``work_dirs/<config name>``.
        resume: True continues from the newest checkpoint of the work dir, a path from that checkpoint.
        reschedule: With ``resume``: follow the schedule and optimizer settings of the config where they have changed.
        submission: False stops after the training, without predicting the test split.

    Returns:
        The config. Change any entry before you pass it on, as in ``config.model.backbone.depth = 34``.

    Raises:
        ConfigError: If the file is missing or broken, an override names a key that does not exist and that its class does
            not take, a class of this package is given an argument it does not know, a score is watched that the validation does
            not have, an argument has a value of the wrong kind, or the config holds a password.
    """
    config = _read_with_options(str(path), cfg_options or {})
    if config.get('runner_type', 'Runner') == 'Runner':
        config.runner_type = 'MultiTaskRunner'
    if config.setdefault('default_scope', SCOPE) != SCOPE:
        raise ConfigError(
            f'`default_scope` should be {SCOPE!r}, which finds the classes of mmseg and mmengine, too. '
            f'Found {config.default_scope!r}.'
        )
    data_root = data_root or os.environ.get(DATA_ROOT_VARIABLE)
    if data_root:
        set_data_root(config, str(data_root))
    set_missing_tasks(config)
    drop_tasks(config)
    refuse_secrets(config._cfg_dict)
    check_arguments(config)
    link_labels(config)
    link_scores(config)
    # It imports torch.
    from mtl_plugins.config import options

    settings = dict(epochs=epochs, batch_size=batch_size, lr=lr, size=size, seed=seed)
    if any(value is not None for value in settings.values()):
        options.set_settings(config, **settings)
    if work_dir is not None:
        config.work_dir = str(work_dir)
    options.set_resume(config, ('auto' if resume is True else str(resume)) if resume else None, reschedule)
    if amp:
        options.set_mixed_precision(config)
    if not submission:
        config.submission = {**(config.get('submission') or {}), 'enabled': False}
    return config


def check_inputs(path: str, options: dict[str, Any] | None = None, data_root: str | None = None) -> None:
    """Check what can be known of a config and its data within a second: imports neither torch nor the classes of the config.

    Arguments and errors are those of :func:`load_config`; a data root that does not exist, or has a ``dataset.json`` that cannot
    be used, is a DataError.
    """
    config = _read_with_options(path, options or {})
    data_root = data_root or os.environ.get(DATA_ROOT_VARIABLE)
    loaders = [config.get(name) for name in ('train_dataloader', 'val_dataloader', 'test_dataloader')]
    for node in (node for _, node in typed_dicts(loaders) if isinstance(node.get('data_root'), str)):
        root = check_root(data_root or node['data_root'])
        if node['type'] == 'MiniScapesDataset':
            build_labels(miniscapes_labels(root))


def _read_with_options(path: str, options: dict[str, Any]) -> Config:
    config = _template_for(path) if path.startswith(MMSEG) else read_config(path)
    check_entries(config)
    _fill_in(config)
    place_task_balancing(config)
    apply_options(config, options)
    check_entries(config)
    return config


def find_config_file(name: str) -> str:
    """Return a path as it is, or the path of the config of this package that is meant.

    ``joint/NAME.py``, ``configs/joint/NAME.py``, ``mtl_plugins::joint/NAME.py`` and the unique ``NAME`` mean the same file.
    """
    if Path(name).is_file():
        return name
    wanted = Path(name.removeprefix(OWN).removeprefix('configs/')).with_suffix('')
    known = list_configs()
    found = [path for path in known if path.with_suffix('') == wanted or (wanted.name == str(wanted) == path.stem)]
    if len(found) == 1:
        return str(CONFIGS / found[0])
    nearest = suggest(wanted.name, [path.stem for path in known], most=0)
    raise ConfigError(f'Config {name} does not exist.{nearest} `mtl config list` shows those of this package.')


def list_configs() -> list[Path]:
    """Return the configs of this package that are no bases, relative to their folder."""
    return sorted(path.relative_to(CONFIGS) for path in CONFIGS.glob('[!_]*/*.py'))


def read_config(path: str) -> Config:
    """Read a config file of either style as plain values, with classes by their names."""
    path = find_config_file(path)
    try:
        config = Config.fromfile(path)
        # In the new style values are imported when they are looked at.
        imported = getattr(config, '_imported_names', ())
        helpers = (type, types.ModuleType, types.FunctionType, types.BuiltinFunctionType, functools.partial)
        entries = {key: each for key, each in config._cfg_dict.items() if key not in imported and not isinstance(each, helpers)}
    except UserError:
        raise
    except (Exception, SystemExit) as error:
        # A config is a program, which fails in any way.
        lines = [
            frame.lineno for frame in traceback.extract_tb(error.__traceback__) if Path(frame.filename) == Path(path).absolute()
        ]
        place = f' (line {lines[-1]})' if lines else ''
        raise ConfigError(f'Config {path} cannot be read{place}: {type(error).__name__}: {shorten(error, 300)}') from error
    plain = ConfigDict({str(key): _plain(value, str(key), path) for key, value in entries.items()})
    return Config(plain, cfg_text=config.text, filename=path, env_variables=config.env_variables)


def _read_mmseg_config(name: str) -> Config:
    """Read the config ``mmseg::<folder>/<file>.py`` of the installed package.

    mmengine's own look-up knows the package by the name of the original and would install that.
    """
    folder = Path(mmseg.__file__).parent / '.mim/configs'
    path = folder / name.removeprefix(MMSEG)
    if not path.is_file():
        raise ConfigError(f'There is no config {name} in the installed mmseg. {folder} holds them.')
    return Config.fromfile(path)


def _template_for(name: str) -> Config:
    """Return this project's data, metric and runtime for a config of mmseg, which is still to be filled in."""
    template = Config.fromfile(MMSEG_TEMPLATE)
    template.model.segmentor = name
    # The run is named after it.
    return Config(template._cfg_dict, filename=_read_mmseg_config(name).filename)


def _fill_in(config: Config) -> None:
    """Replace the name of a config of mmseg at ``model.segmentor`` by its model, and take over its schedule, in place.

    Optimizer, learning rates and length of the training, and with the length the intervals of validation and checkpoints, are
    mmseg's where the config has none; so are the mean and standard deviation of the images.
    """
    name = (config.get('model') or {}).get('segmentor')
    if not isinstance(name, str):
        return
    source = _read_mmseg_config(name)
    config.model.segmentor = source.model
    preprocessor = source.model.get('data_preprocessor') or {}
    for key in ('mean', 'std'):
        if preprocessor.get(key):
            values = list(preprocessor[key])
            config.model.data_preprocessor[key] = values if preprocessor.get('bgr_to_rgb', True) else values[::-1]
    for key in MMSEG_SCHEDULE:
        if key not in config and key in source:
            config[key] = ConfigDict({key: source[key]})[key]
    if 'max_iters' in config.train_cfg:
        interval = config.train_cfg.get('val_interval', config.train_cfg.max_iters)
        config.default_hooks.checkpoint.setdefault('interval', interval)


def check_entries(config: Config) -> None:
    """Refuse entries of another kind than mmengine's Runner takes, and leave out None where it has a default."""
    for name, (kind, expected) in ENTRIES.items():
        value = config.get(name)
        if value is None:
            if name in config and name in DEFAULTED:
                config.pop(name)
        elif not isinstance(value, kind):
            raise ConfigError(f'`{name}` should be {expected}. Found {shorten(value)}.')
    seed, level = (config.get('randomness') or {}).get('seed'), config.get('log_level')
    if seed is not None and (not isinstance(seed, int) or isinstance(seed, bool) or seed < 0):
        raise ConfigError(f'`randomness.seed` should be a whole number from 0. Found {seed!r}.')
    if isinstance(level, str) and level not in LEVELS:
        raise ConfigError(f'`log_level` should be one of {", ".join(LEVELS)}. Found {level!r}.')


def _plain(node: Any, place: str, path: str) -> Any:
    """Return a value of a config as text can say it: classes by their names, arrays as lists."""
    if isinstance(node, (LazyObject, LazyAttr)):
        node = node.build()
    if isinstance(node, dict):
        # The default scope, which mmengine notes in all that comes from a base of a package, and passes on to functions.
        items = ((key, value) for key, value in node.items() if (key, value) != ('_scope_', SCOPE))
        return {key: _plain(value, f'{place}.{key}', path) for key, value in items}
    if isinstance(node, (list, tuple)):
        return type(node)(_plain(value, f'{place}.{index}', path) for index, value in enumerate(node))
    if node is None or isinstance(node, (bool, int, float, str)):
        return node
    if isinstance(node, os.PathLike):
        return os.fspath(node)
    if isinstance(node, range):
        return list(node)
    if hasattr(node, 'tolist'):
        return node.tolist()
    name = name_of(node) if callable(node) else None
    if name is not None and place.rpartition('.')[2] in ('type', 'constructor'):
        return name
    what = f'the {type(node).__name__} {getattr(node, "__name__", "")}'.rstrip()
    raise ConfigError(
        f'`{place}` of {path} should be a plain value. Found {what}: a config is written into the work dir as text. Register it '
        "in a module (docs/add_your_own.md) and name it, as in dict(type='...')."
    )


def parse_options(options: list[str] | None) -> dict[str, Any]:
    """Return ``['a.b=1', 'c=[1,2]']`` as a dict, values read as mmengine's ``--cfg-options`` does."""
    parser = argparse.ArgumentParser()
    parser.add_argument('--options', nargs='*', action=DictAction)
    values: dict[str, Any] = {}
    for option in options or []:
        key, found, value = option.partition('=')
        if not found:
            raise ConfigError(f'`--cfg-options` should be KEY=VALUE. Found {option!r}.')
        try:
            text = value.strip('"')
            if text.startswith('{'):
                # mmengine leaves a dict as text.
                values[key] = ast.literal_eval(text)
            else:
                values.update(parser.parse_args(['--options', option]).options)
        except (AssertionError, SyntaxError, ValueError, RecursionError) as error:
            raise ConfigError(f'`--cfg-options {key}` should have a value as Python writes it. Found {value!r}.') from error
    return values


def check_arguments(config: Config) -> None:
    """Refuse the first unknown key of a dict whose ``type`` is a class of this package, with the nearest known one.

    Keys of the config itself may be helper variables: there, only one that is nearly a key of the Runner is told, in a warning.
    """
    from mmengine.runner import Runner  # takes seconds

    runner_keys = {*inspect.signature(Runner).parameters, *ENTRIES, *OWN_ENTRIES}
    for key in config:
        nearest = [] if key in runner_keys else difflib.get_close_matches(key, runner_keys, 1, 0.92)
        if nearest:
            print_log(
                f'`{key}` in the config is no key that a training reads. Did you mean `{nearest[0]}`?',
                logger='current',
                level=logging.WARNING,
            )
    for place, node in typed_dicts(config._cfg_dict):
        if not isinstance(node.get('init_cfg'), (dict, list, tuple, type(None))):
            raise ConfigError(
                f"`init_cfg` at `{place}` should be dict(type='Pretrained', checkpoint=...) or None. "
                f'Found {shorten(node["init_cfg"])}.'
            )
        accepted = accepted_arguments(own_class(node['type']))
        if accepted is None:
            continue
        for key in node:
            if key not in accepted and key not in ('type', '_scope_', '_delete_'):
                raise ConfigError(f'Unknown key `{key}` of {node["type"]} at `{place}`.{suggest(key, accepted)}')


def apply_options(config: Config, options: dict[str, Any]) -> None:
    """Override entries of a config by dotted key, or refuse a key that does not exist and that its class does not take."""
    # mmengine takes `_delete_` out of the values.
    options = copy.deepcopy(options)
    # Another class takes other arguments: types first.
    types = {dotted: value for dotted, value in options.items() if dotted.endswith('.type')}
    for group in (types, {dotted: value for dotted, value in options.items() if dotted not in types}):
        for dotted, value in group.items():
            _check_option(config._cfg_dict, dotted, value)
        config.merge_from_dict(group)


def _check_option(node: Any, dotted: str, value: Any) -> None:
    *parents, last = dotted.split('.')
    if last in (*ENTRIES, *OWN_ENTRIES) and not parents:
        return
    for level, key in enumerate(parents):
        if _takes(node, key, dotted):
            return  # An argument that the config leaves out, given in parts: `backbone.init_cfg.checkpoint`.
        node = _child(node, key, '.'.join(parents[:level]), dotted)
    is_loader = bool(parents) and parents[-1].endswith('dataloader')
    if not is_loader and not _takes(node, last, dotted):
        _child(node, last, '.'.join(parents), dotted)
    if isinstance(value, dict) and isinstance(node, dict) and not isinstance(node.get(last, {}), dict):
        value['_delete_'] = True  # Of mmengine: the dict takes the place of what is none.


def _takes(node: Any, key: str, dotted: str) -> bool:
    """Return True if ``node`` is the config of a class that takes ``key`` but is not given it; refuse a key that it does not."""
    if not isinstance(node, dict) or key in node or not isinstance(node.get('type'), str):
        return False
    accepted = accepted_arguments(any_class(node['type']))
    if accepted is not None and key not in accepted:
        raise ConfigError(f'`--cfg-options {dotted}`: {node["type"]} takes no `{key}`.{suggest(key, accepted)}')
    return True


def _child(node: Any, key: str, place: str, dotted: str) -> Any:
    if isinstance(node, (list, tuple)):
        if not key.isdigit() or int(key) >= len(node):
            raise ConfigError(f'`--cfg-options {dotted}`: `{place}` is a list of {len(node)} items. Found index {key!r}.')
        return node[int(key)]
    if not isinstance(node, dict) or key not in node:
        known = node if isinstance(node, dict) else ()
        raise ConfigError(f'`--cfg-options {dotted}`: no key `{key}` in {place or "the config"}.{suggest(key, known)}')
    return node[key]
