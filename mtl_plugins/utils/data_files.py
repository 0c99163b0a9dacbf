"""Files that are data: read within limits, and what they name resolved without running anything.

Configs that the user names are code: mmengine imports and calls whatever a dotted ``type`` names. Checkpoints, records of runs,
``dataset.json``, exported models and plans are data, whoever wrote them. Their values are plain, and a type is the name of a
registered class.
"""

import errno
import functools
import importlib
import inspect
import json
import math
import os
import stat
import sys
import unicodedata
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import ModuleType
from typing import TYPE_CHECKING, Any

from mtl_plugins.errors import ConfigError, CorruptFileError, UserError

if TYPE_CHECKING:
    from mmengine.registry import Registry

# Modules, separated by commas, whose classes files may name: plug-ins that the user trusts.
PLUGINS_VARIABLE = 'MTL_PLUGINS'
PLUGINS_ADVICE = f'If it is a plug-in that you trust, set {PLUGINS_VARIABLE} to its module.'
# Classes of other libraries that `<library>.<class>` names: their module, their bases, and the registry that they belong to.
LIBRARIES = dict(
    torch=('torch.nn.modules.loss', ('_Loss',), 'MODELS'),
    torchvision=('torchvision.transforms.v2', ('Transform',), 'TRANSFORMS'),
)
MOST_BYTES = 2**26
MOST_LEVELS = 64
# Of an integer: those of 64 bits have 19.
_MOST_DIGITS = 20
# Initial weights and remote storage: what starts from, or is read with, other files.
_LEFT_OUT = ('init_cfg', 'pretrained', 'checkpoint_path', 'backend_args', 'file_client_args')
_PICKLES = ('.pkl', '.pickle')
_SUFFIXES = ('.npy', '.npz', '.pth', '.pt', '.json', '.yaml', '.yml', '.py')


def open_regular(path: str | os.PathLike, flags: int) -> int:
    """Open a file, as the ``opener`` of :func:`open`, unless it is a folder, a pipe or a device.

    Raises:
        OSError: If it is, or cannot be opened.
    """
    # Opening a pipe would wait for somebody who writes into it.
    descriptor = os.open(path, flags | os.O_NONBLOCK)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, 'it is no regular file', str(path))
    return descriptor


def read_bytes(path: str | os.PathLike, most: int = MOST_BYTES) -> bytes:
    """Return the content of a regular file of at most ``most`` bytes.

    Raises:
        OSError: If it cannot be read, is something else, or is larger.
    """
    with open(path, 'rb', opener=open_regular) as file:
        if os.fstat(file.fileno()).st_size > most:
            raise OSError(errno.EFBIG, f'it is larger than {most / 2**20:.0f} MiB', str(path))
        return file.read()


def read_json(path: str | os.PathLike, what: str, form: Any = None, error_type: type[UserError] = CorruptFileError) -> Any:
    """Return the values of a JSON file, see :func:`parse_json`; errors call it ``what``, such as "plan".

    Raises:
        UserError: Of the given type, if it cannot be read or is not of the ``form``, see :func:`find_misfit`.
    """
    try:
        found = parse_json(read_bytes(path))
    except OSError as error:
        raise error_type(f"The {what} '{path}' cannot be read: {error.strerror}.") from error
    except ValueError as error:
        raise error_type(f"The {what} '{path}' cannot be read as JSON: {shorten(error)}.") from error
    misfit = 'It should not be null.' if found is None and form is not None else find_misfit(found, form)
    if misfit is not None:
        raise error_type(f"The {what} '{path}' cannot be used: {misfit}")
    return found


def parse_json(data: bytes | str) -> Any:
    """Return the values of a JSON text: finite numbers that 64 bits hold, nested at most ``MOST_LEVELS`` deep.

    Raises:
        ValueError: If it is something else.
    """
    deep = ValueError(f'it is nested more than {MOST_LEVELS} levels deep')
    try:
        text = data if isinstance(data, str) else data.decode(json.detect_encoding(data))
        found = json.loads(text, parse_constant=_refuse_number, parse_int=_parse_int, parse_float=_parse_float)
    except RecursionError:
        raise deep from None
    level = [found]
    for _ in range(MOST_LEVELS):
        nodes = [list(node.values()) if isinstance(node, dict) else node for node in level if isinstance(node, (dict, list))]
        level = [child for node in nodes for child in node]
        if not level:
            return found
    raise deep


def _refuse_number(text: str) -> Any:
    raise ValueError(f'{text[:_MOST_DIGITS]} is no finite number of 64 bits')


def _parse_int(text: str) -> int:
    return int(text) if len(text) <= _MOST_DIGITS else _refuse_number(text)


def _parse_float(text: str) -> float:
    number = float(text)
    return number if math.isfinite(number) else _refuse_number(text)


def is_text(value: Any) -> bool:
    """Return True for text."""
    return isinstance(value, str)


def is_number(value: Any) -> bool:
    """Return True for a number; True and False are none."""
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def is_flag(value: Any) -> bool:
    """Return True for True and False."""
    return isinstance(value, bool)


def is_name(value: Any) -> bool:
    """Return True for the name of a file without a folder."""
    return isinstance(value, str) and value == os.path.basename(value) and value not in ('', '.', '..') and '\0' not in value


# The key of a form that stands for all others.
ANY = '*'
_EXPECTED = {is_text: 'text', is_number: 'a number', is_flag: 'true or false', is_name: 'the name of a file'}


def find_misfit(node: Any, form: Any, place: str = '') -> str | None:
    """Return a sentence on the first value that is not of a form; None if all are.

    Args:
        node: Values of a JSON file.
        form: One of the functions above; ``{name: form}`` for an object, whose entries may be missing, null or further ones, or
            ``{ANY: form}``; ``[form]`` for a list; None for anything.
        place: Dotted keys of the node.
    """
    if node is None or form is None:
        return None
    if isinstance(form, dict):
        expected, fits = 'an object', isinstance(node, dict)
        entries = ((key, value, form.get(key, form.get(ANY))) for key, value in node.items()) if fits else ()
    elif isinstance(form, list):
        expected, fits = 'a list', isinstance(node, list) and None not in node
        entries = ((str(index), value, form[0]) for index, value in enumerate(node)) if fits else ()
    else:
        expected, fits, entries = _EXPECTED[form], form(node), ()
    if not fits:
        return f'{f"`{place}`" if place else "It"} should be {expected}. Found {shorten(node)}.'
    misfits = (find_misfit(value, inner, f'{place}.{key}' if place else key) for key, value, inner in entries)
    return next((misfit for misfit in misfits if misfit), None)


def shorten(value: Any, most: int = 80) -> str:
    """Return the first line of an error, or a value as Python writes it, of at most ``most`` letters."""
    if isinstance(value, BaseException):
        text = (str(value).strip().splitlines() or [''])[0] or type(value).__name__
    else:
        text = repr(value)
    return text if len(text) <= most else f'{text[: most - 3]}...'


def printable(text: object, kept: str = '') -> str:
    """Return a text that a terminal shows and does not obey: control characters, but for ``kept``, as Python escapes them."""
    return ''.join(each if each in kept or _is_printable(each) else ascii(each)[1:-1] for each in str(text))


def _is_printable(character: str) -> bool:
    # Spaces of other scripts, and what joins their letters.
    return character.isprintable() or unicodedata.category(character) == 'Zs' or character in '\u200c\u200d'


def find_registered(name: Any, *roots: 'Registry') -> type | None:
    """Return the class that a registry, or one below it (mmseg's, mmengine's), holds under a name; None if there is none.

    Unlike ``Registry.get`` it imports no module that the name asks for. A dot separates the scope of one of these registries from
    the name of the class, as in ``mmseg.ASPPHead``, or a library of ``LIBRARIES``; it is no path. Classes of plug-ins are known
    once they are imported, for which the environment variable ``MTL_PLUGINS`` may ask.

    Raises:
        ConfigError: If a plug-in or a library cannot be imported, as mmseg without the compiled mmcv.
    """
    from mtl_plugins import registry

    if not isinstance(name, str):
        return None
    import_plugins()
    scope, _, own = name.rpartition('.')
    if scope in LIBRARIES:
        return find_in_library(name) if getattr(registry, LIBRARIES[scope][2]) in roots else None
    nodes = list(roots)
    # Those of this package first: importing all of mmseg takes seconds.
    while nodes := [node for node in nodes if node is not None]:
        for node in nodes:
            if scope in ('', node.scope) or (scope == 'mmcv' and node.parent is None):
                try:
                    node.import_from_location()
                except ModuleNotFoundError as error:
                    raise ConfigError(
                        f'{name!r} is none of this package, and {node.scope} cannot be imported: {error}. '
                        'Its parts need the compiled mmcv, or the forks of the extra `onedl`, which do without it.'
                    ) from error
                found = node.module_dict.get(own)
                # mmcv registers its classes with mmengine's; `mmcv.Pad` is an attribute of the package.
                if found is not None and (scope != 'mmcv' or getattr(sys.modules.get('mmcv'), own, None) is found):
                    return found
        nodes = [node.parent for node in nodes]
    return None


def find_in_library(name: str) -> type | None:
    """Return the loss of torch or the transform of torchvision of a name; None if there is none."""
    library, _, own = name.partition('.')
    module, bases, _ = LIBRARIES[library]
    namespace = importlib.import_module(module)
    found = getattr(namespace, own, None)
    return found if inspect.isclass(found) and issubclass(found, tuple(getattr(namespace, base) for base in bases)) else None


@functools.cache
def import_plugins() -> None:
    """Import the modules that the environment variable ``MTL_PLUGINS`` names."""
    for name in filter(None, map(str.strip, os.environ.get(PLUGINS_VARIABLE, '').split(','))):
        try:
            importlib.import_module(name)
        except ImportError as error:
            raise ConfigError(f'`{PLUGINS_VARIABLE}` should name modules that can be imported. Found {name}: {error}.') from error


def refuse_imports(config: Mapping[str, Any], place: str, advice: str = PLUGINS_ADVICE) -> None:
    """Refuse a config that asks by ``custom_imports`` for modules that are not imported."""
    import_plugins()
    imports = config.get('custom_imports')
    imports = imports.get('imports') if isinstance(imports, Mapping) else imports
    unknown = [str(name) for name in ([imports] if isinstance(imports, str) else imports or ()) if name not in sys.modules]
    if unknown:
        raise ConfigError(f'{place} should need no modules that are not imported yet. Found {", ".join(unknown)}. {advice}')


def take_part(node: Any, place: str, *roots: 'Registry', advice: str = PLUGINS_ADVICE, paths: bool = False) -> Any:
    """Return a copy of a part of a config in a file, which may be built: plain values, and types of registered classes.

    What would load or fetch initial weights is taken out.

    Args:
        node: The part.
        place: Its name in errors, which end with ``advice``.
        roots: Registries of the classes that it may name; those of labels are added.
        paths: True if it may name files, as a data set does.

    Raises:
        ConfigError: If it names something that is no registered class, or files.
    """
    from mmengine.registry import FUNCTIONS

    from mtl_plugins.registry import LABELS, TRANSFORMS

    # Labels have names of classes and templates of files.
    others = dict(
        labels=((LABELS,), True),
        pipeline=((TRANSFORMS,), False),
        collate_fn=((FUNCTIONS,), False),
        worker_init_fn=((FUNCTIONS,), False),
    )

    def refuse(expected: str, found: Any) -> None:
        raise ConfigError(f'{place} should {expected}. Found {shorten(found)}. {advice}')

    def take(node: Any, roots: tuple, paths: bool, levels: int) -> Any:
        if not levels:
            refuse(f'be nested at most {MOST_LEVELS} levels deep', node)
        if isinstance(node, Mapping):
            return take_dict(node, roots, paths, levels)
        if isinstance(node, (list, tuple)):
            return [take(value, roots, paths, levels - 1) for value in node]
        if isinstance(node, str):
            # A loss reads its weights from what has such a suffix, by pickle too, even if the name is nothing else.
            suffix = f'.{node.lower()}'
            is_file = set(node) & set('/\\') or suffix.endswith(_SUFFIXES)
            if '://' in node or suffix.endswith(_PICKLES) or (is_file and not paths):
                refuse('name no files or addresses', node)
        elif node is not None and not isinstance(node, (bool, int, float)):
            refuse('hold plain values', node)
        return node

    def take_dict(node: Mapping, roots: tuple, paths: bool, levels: int) -> dict[str, Any]:
        part: dict[str, Any] = {}
        if 'type' in node:
            found = find_registered(node['type'], *roots)
            if found is None:
                refuse('name registered classes as `type`', node['type'])
            # A class that fetches weights unless it is told not to.
            parameter = inspect.signature(found).parameters.get('pretrained')
            if parameter is not None and parameter.default is True:
                part['pretrained'] = False
        for key, value in node.items():
            if not isinstance(key, str) or key.startswith('_') or key == 'target':
                raise ConfigError(f'{place} should have no key {key!r}. {advice}')
            if key in _LEFT_OUT:
                part.setdefault(key, None)
            else:
                part[key] = take(value, *others.get(key, (roots, paths)), levels - 1)
        return part

    return take(node, roots, paths, MOST_LEVELS)


def import_extra(name: str, extra: str, path: object) -> ModuleType:
    """Import a package that reading a file needs, or raise `ConfigError` that says how to install it."""
    try:
        return importlib.import_module(name)
    except ImportError:
        package = name.partition('.')[0]
        raise ConfigError(f"Reading '{path}' needs the package {package}. Run: pip install mtl_plugins[{extra}]") from None


@contextmanager
def refusing(sentence: str) -> Iterator[None]:
    """Raise `CorruptFileError` for whatever a library says: they have many ways to say no to a file that someone made up."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        raise CorruptFileError(f'{sentence}: {shorten(error)}') from error
