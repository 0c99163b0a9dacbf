"""Loading a config with overrides that cannot silently miss."""

import argparse
import copy
import difflib
import inspect
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mmengine.config import Config, DictAction
from mmengine.optim import OptimWrapper, _ParamScheduler
from mmengine.registry import Registry

from mtl_plugins import registry as registries
from mtl_plugins.errors import ConfigError
from mtl_plugins.utils.mmseg_config import PACKAGE, fill_in, template_for
from mtl_plugins.utils.secrets import refuse_secrets

DATA_ROOT_VARIABLE = 'MTL_DATA_ROOT'
DATALOADERS = ('train_dataloader', 'val_dataloader', 'test_dataloader')
# mmengine's builders take these out of a config before the class sees it.
BUILDER_ARGUMENTS = {OptimWrapper: {'constructor', 'paramwise_cfg'}, _ParamScheduler: {'convert_to_iter_based'}}


def load_config(path: str, options: dict[str, Any] | None = None, data_root: str | None = None) -> Config:
    """Read a config file, apply overrides and check the arguments of every class of this package in it.

    Args:
        path: A ``.py`` config in the text style, or a whole config of mmseg, ``mmseg::<folder>/<file>.py``.
        options: Overrides by dotted key, e.g. ``{'train_dataloader.batch_size': 8}``; list items by index.
        data_root: Replaces the data root of all data sets; the environment variable ``MTL_DATA_ROOT`` does the same.

    Raises:
        ConfigError: If the file is missing or broken, an override names a key that does not exist and that its class does
            not take, a class of this package is given an argument it does not know, or the config holds a password.
    """
    if not path.startswith(PACKAGE) and not Path(path).is_file():
        raise ConfigError(f'Config {path} does not exist. configs/README.md lists what there is.')
    try:
        config = template_for(path) if path.startswith(PACKAGE) else Config.fromfile(path)
    except (SyntaxError, NameError, KeyError, TypeError, FileNotFoundError) as error:
        raise ConfigError(f'Config {path} cannot be read: {type(error).__name__}: {str(error).splitlines()[0]}') from error
    fill_in(config)
    place_task_balancing(config)
    _apply_options(config, options or {})
    data_root = data_root or os.environ.get(DATA_ROOT_VARIABLE)
    if data_root:
        for name in DATALOADERS:
            if config.get(name):
                config[name].dataset.data_root = data_root
    refuse_secrets(config)
    check_arguments(config)
    link_labels(config)
    return config


class RunConfig(Config):
    """A config whose text is formatted anew only where it has changed.

    mmengine has yapf format it for every checkpoint, which takes as long as several steps of a small model.
    """

    @classmethod
    def of(cls, config: Config) -> 'RunConfig':
        """The same config; entries are shared with the given one."""
        made = cls.__new__(cls)
        made.__dict__.update(config.__dict__)
        return made

    @property
    def pretty_text(self) -> str:
        """The config as Python code, formatted."""
        attributes = self.__dict__  # mmengine takes what is set as an attribute for an entry
        formatted = attributes['_format_python_code']
        try:
            attributes['_format_python_code'] = False
            code = super().pretty_text
        finally:
            attributes['_format_python_code'] = formatted
        if attributes.get('_code') != code:
            attributes.update(_code=code, _pretty_text=super().pretty_text)
        return attributes['_pretty_text']


def place_task_balancing(config: Config) -> None:
    """Move a top-level ``task_balancing`` to the model, whose own it replaces.

    At the top level a further base may set it, as ``_base_/task_balancing/*.py`` do: two bases cannot both hold ``model``.

    Raises:
        ConfigError: If there is no model.
    """
    balancing = config.pop('task_balancing', None)
    if balancing is None:
        return
    if not config.get('model'):
        raise ConfigError('`task_balancing` should stand in the config of a model. Found no `model`.')
    config.model.task_balancing = balancing


def link_labels(config: Config) -> None:
    """Fill in what follows from the data: the labels that the model and the metrics read, and the number of classes.

    The data set says which labels there are; the tasks of the model say which of them are learned. So the data preprocessor gets
    the labels, the model the order of its tasks, which no file of a config keeps, a task of a class map ``num_classes``, and data
    sets and :class:`MultiTaskMetric` the names as ``tasks``, each only where the config leaves it out.

    Raises:
        ConfigError: If a task learns a label that the data set does not offer, or states another number of classes.
    """
    datasets = [config[name].dataset for name in DATALOADERS if config.get(name) and config[name].get('dataset')]
    model = config.get('model') or {}
    offered = offered_labels(datasets[0]) if datasets else None
    if not offered or not model.get('tasks'):
        return
    learned = {task: settings.get('label') or task for task, settings in model['tasks'].items()}
    for task, label in learned.items():
        if label not in offered:
            raise ConfigError(
                f'The task `{task}` should learn a label of {datasets[0].type}: {", ".join(offered)}. Found {label!r}. Set '
                f'`model.tasks.{task}.label`.'
            )
        _link_classes(f'model.tasks.{task}', model['tasks'][task], offered[label])
    if len(learned) > 1 and 'task_order' in (accepted_arguments(_own_class(model['type'])) or ()):
        model.setdefault('task_order', list(learned))
    preprocessor = model.get('data_preprocessor')
    if preprocessor and 'labels' in (accepted_arguments(_own_class(preprocessor['type'])) or ()):
        preprocessor.setdefault('labels', offered)
    names = list(learned.values())
    for dataset in datasets:
        if 'tasks' in (accepted_arguments(_own_class(dataset.type)) or ()):
            dataset.setdefault('tasks', names)
    for evaluator in (config.get('val_evaluator'), config.get('test_evaluator')):
        for metric in evaluator if isinstance(evaluator, list) else [evaluator]:
            if metric and 'tasks' in (accepted_arguments(_own_class(metric['type'])) or ()):
                unknown = [name for name in metric.setdefault('tasks', names) if name not in offered]
                if unknown:
                    raise ConfigError(
                        f'`tasks` of {metric["type"]} should be labels of the data: {list(offered)}. Found {unknown[0]!r}.'
                    )


def offered_labels(dataset: dict) -> dict[str, dict] | None:
    """Configs of the labels that the data set of a config offers; None if its class does not say.

    Raises:
        ConfigError: If the arguments are wrong.
    """
    cls = _own_class(dataset['type'])
    if not hasattr(cls, 'offered_labels'):
        return None
    try:
        return {name: dict(settings) for name, settings in cls.offered_labels(dataset).items()}
    except (TypeError, ValueError) as error:
        raise ConfigError(f'The data set {dataset["type"]} cannot say which labels it has: {error}') from error


def _link_classes(place: str, task: dict, label: dict) -> None:
    classes = label.get('classes')
    # What is no list of names is refused where the label is built.
    if (
        not isinstance(classes, (list, tuple))
        or not classes
        or 'num_classes' not in (accepted_arguments(_own_class(task['type'])) or ())
    ):
        return
    if task.setdefault('num_classes', len(classes)) != len(classes):
        raise ConfigError(
            f'`{place}.num_classes` should be {len(classes)}, the number of classes in the data, or be left out. '
            f'Found {task["num_classes"]}.'
        )


def parse_options(options: list[str] | None) -> dict[str, Any]:
    """``['a.b=1', 'c=[1,2]']`` as a dict, values read as mmengine's ``--cfg-options`` does.

    Raises:
        ConfigError: If an item is not ``KEY=VALUE``.
    """
    parser = argparse.ArgumentParser()
    parser.add_argument('--options', nargs='*', action=DictAction)
    for option in options or []:
        if '=' not in option:
            raise ConfigError(f'`--cfg-options` should be KEY=VALUE. Found {option!r}.')
    return parser.parse_args(['--options', *options]).options if options else {}


def check_arguments(config: Config) -> None:
    """Compare the keys of every dict whose ``type`` is a class of this package with what the class takes.

    Raises:
        ConfigError: On the first unknown key, with its place and the nearest known one.
    """
    for place, node in _typed_dicts(config._cfg_dict, ''):
        accepted = accepted_arguments(_own_class(node['type']))
        if accepted is None:
            continue
        for key in node:
            if key not in accepted and key not in ('type', '_scope_', '_delete_'):
                raise ConfigError(f'Unknown key `{key}` of {node["type"]} at `{place}`.{suggest(key, accepted)}')


def accepted_arguments(cls: type | None) -> set[str] | None:
    """Names that the config of ``cls`` may have besides ``type``; ``None``: any.

    Those that its constructor takes, its parents' included where it passes ``**kwargs``, and those that its builder takes.
    """
    if cls is None:
        return None
    names: set[str] = set()
    for base, builder_names in BUILDER_ARGUMENTS.items():
        if inspect.isclass(cls) and issubclass(cls, base):
            names |= builder_names
    for parent in inspect.getmro(cls) if inspect.isclass(cls) else (cls,):
        function = parent.__dict__.get('__init__') if inspect.isclass(parent) else parent
        if not inspect.isfunction(function):
            continue
        parameters = inspect.signature(function).parameters.values()
        names |= {item.name for item in parameters if item.kind in (item.POSITIONAL_OR_KEYWORD, item.KEYWORD_ONLY)} - {'self'}
        if not any(item.kind is item.VAR_KEYWORD for item in parameters):
            return names
    return None


def _typed_dicts(node: Any, place: str) -> Iterator[tuple[str, dict]]:
    if isinstance(node, dict):
        if isinstance(node.get('type'), str):
            yield place, node
        for key, value in node.items():
            yield from _typed_dicts(value, f'{place}.{key}' if place else key)
    elif isinstance(node, (list, tuple)):
        for index, value in enumerate(node):
            yield from _typed_dicts(value, f'{place}.{index}')


def _registries() -> list[Registry]:
    return [item for item in vars(registries).values() if isinstance(item, Registry)]


def _own_class(name: str) -> type | None:
    name = name.removeprefix(f'{registries.SCOPE}.')
    for item in _registries():
        item.import_from_location()
        if name in item.module_dict:
            return item.module_dict[name]
    return None


def _any_class(name: str) -> type | None:
    own = _own_class(name)
    if own is not None:
        return own
    return next((found for item in _registries() if (found := item.root.get(name)) is not None), None)


def suggest(key: str, known: Any) -> str:
    """Sentences to follow an error about an unknown ``key``: the nearest of those that are known, and all of them."""
    known = sorted(str(name) for name in known)
    close = difflib.get_close_matches(key, known, n=1)
    listed = ', '.join(known)
    return (f' Did you mean `{close[0]}`?' if close else '') + f' Known keys: {listed}.'


def _apply_options(config: Config, options: dict[str, Any]) -> None:
    # mmengine takes `_delete_` out of the values.
    options = copy.deepcopy(options)
    # Another class takes other arguments: types first.
    types = {dotted: value for dotted, value in options.items() if dotted.endswith('.type')}
    for group in (types, {dotted: value for dotted, value in options.items() if dotted not in types}):
        _check_options(config, group)
        config.merge_from_dict(group)


def _check_options(config: Config, options: dict[str, Any]) -> None:
    for dotted in options:
        node: Any = config._cfg_dict
        *parents, last = dotted.split('.')
        for level, key in enumerate(parents):
            if _takes(node, key, dotted):
                break  # An argument that the config leaves out, given in parts: `backbone.init_cfg.checkpoint`.
            node = _child(node, key, '.'.join(parents[:level]), dotted)
        else:
            loader = bool(parents) and parents[-1].endswith('dataloader')
            if not loader and not _takes(node, last, dotted):
                _child(node, last, '.'.join(parents), dotted)


def _takes(node: Any, key: str, dotted: str) -> bool:
    """Whether ``node`` is the config of a class that takes ``key`` but is not given it.

    Raises:
        ConfigError: If it is the config of a class that does not take ``key``.
    """
    if not isinstance(node, dict) or key in node or not isinstance(node.get('type'), str):
        return False
    accepted = accepted_arguments(_any_class(node['type']))
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
