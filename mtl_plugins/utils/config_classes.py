"""Classes that the dicts of a config name, and the arguments that these take."""

import difflib
import inspect
from collections.abc import Iterable, Iterator
from typing import Any

import mmengine.registry
from mmengine.registry import FUNCTIONS, Registry
from mmengine.utils import get_object_from_string

from mtl_plugins import registry as registries


def accepted_arguments(cls: type | None) -> set[str] | None:
    """Names that the config of ``cls`` may have besides ``type``; ``None``: any.

    Those that its constructor takes, its parents' included where it passes ``**kwargs``, and those that its builder takes.
    """
    if cls is None:
        return None
    from mmengine.optim import OptimWrapper, _ParamScheduler  # takes seconds

    # mmengine's builders take these out of a config before the class sees it.
    builder_arguments = {OptimWrapper: {'constructor', 'paramwise_cfg'}, _ParamScheduler: {'convert_to_iter_based'}}
    names: set[str] = set()
    for base, builder_names in builder_arguments.items():
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


def typed_dicts(node: Any, place: str = '') -> Iterator[tuple[str, dict]]:
    """The dicts of a config that name a class, outer ones first, each with its dotted key."""
    if isinstance(node, dict):
        if isinstance(node.get('type'), str):
            yield place, node
        for key, value in node.items():
            yield from typed_dicts(value, f'{place}.{key}' if place else str(key))
    elif isinstance(node, (list, tuple)):
        for index, value in enumerate(node):
            yield from typed_dicts(value, f'{place}.{index}')


def own_class(name: str) -> type | None:
    """The class of this package that a config names; None if there is none."""
    name = name.removeprefix(f'{registries.SCOPE}.')
    for item in _registries():
        item.import_from_location()
        if name in item.module_dict:
            return item.module_dict[name]
    return None


def any_class(name: str) -> type | None:
    """The class of this package, of mmseg or of mmengine that a config names, or that is at a dotted path; None otherwise."""
    scope, _, plain = name.rpartition('.')
    # Importing all of mmseg takes seconds.
    nodes = (node for load in (False, True) for item in _registries() for node in _lineage(item, load))
    known = (node.module_dict[plain] for node in nodes if scope in ('', node.scope) and plain in node.module_dict)
    found = own_class(name) or next(known, None)
    try:
        return found or (get_object_from_string(name) if scope else None)
    except Exception:  # The path may lead through any code.
        return None


def name_of(cls: Any) -> str | None:
    """The name by which a config finds a class or function: the registered one, else the dotted path; None if there is none."""
    for item in [*_registries(), FUNCTIONS]:
        hidden: set[str] = set()
        for node in _lineage(item, load=False):
            for name, known in node.module_dict.items():
                if known is cls:
                    return f'{node.scope}.{name}' if name in hidden else name
            hidden |= set(node.module_dict)
    path = f'{getattr(cls, "__module__", "")}.{getattr(cls, "__qualname__", "")}'
    try:
        return path if get_object_from_string(path) is cls else None
    except Exception:  # What is defined in a config is in no module.
        return None


def suggest(key: str, known: Iterable[Any], most: int | None = None) -> str:
    """Sentences to follow an error about an unknown ``key``: the nearest of those that are known, and all of them.

    Args:
        key: What was found.
        known: What there is.
        most: Leave out the list if it is longer.
    """
    known = sorted({str(name) for name in known})
    close = difflib.get_close_matches(key, known, n=1)
    listed = f' Known keys: {", ".join(known)}.' if most is None or len(known) <= most else ''
    return (f' Did you mean `{close[0]}`?' if close else '') + listed


def suggest_class(name: str, registry: str) -> str:
    """A sentence with the nearest class of the registries of a name, as ``'optimizer'``; empty if none is near."""
    scope, _, plain = name.rpartition('.')
    known: dict[str, str] = {}
    others = [item for item in vars(mmengine.registry).values() if isinstance(item, Registry)]
    for item in (*_registries(), *others):
        if item.name == registry:
            for node in _lineage(item):
                # Those of mmseg are found by their scope alone before they are imported.
                prefix = f'{node.scope}.' if scope or node.scope == 'mmseg' else ''
                known = {**{each: f'{prefix}{each}' for each in node.module_dict if scope in ('', node.scope)}, **known}
    close = difflib.get_close_matches(plain, known, n=1)
    return f' Did you mean `{known[close[0]]}`?' if close else ''


def _registries() -> list[Registry]:
    return [item for item in vars(registries).values() if isinstance(item, Registry)]


def _lineage(registry: Registry, load: bool = True) -> Iterator[Registry]:
    """A registry and those above it; with their classes, if ``load``, or those that are imported already."""
    node: Registry | None = registry
    while node is not None:
        if load:
            node.import_from_location()
        yield node
        node = node.parent
