"""Pages about the registered classes: signature, docstring, arguments, as they are when the site is built."""

import inspect
import re
from collections.abc import Iterator
from itertools import groupby

from griffe import Docstring
from mmengine.registry import Registry

import mtl_plugins.lab.features.feature_hook  # noqa: F401, known to no registry: configs name it in `custom_imports`
from mtl_plugins import registry
from mtl_plugins.registry import SCOPE

# Page: title, introduction, registries. The last one has what no other has.
PAGES = {
    'data': ('Labels and data', ['LABELS', 'DATASETS', 'TRANSFORMS', 'DATA_SAMPLERS']),
    'models': ('Models', ['MODELS', 'TASK_UTILS']),
    'training': ('Training and evaluation', []),
}

_ROLE = re.compile(r':(?:class|func|meth|mod|attr|data|obj):`[~.]?([^`]*)`')
_MODULE = re.compile(r'\b(?:collections\.abc|typing|numpy|pathlib|torch\.nn\.modules\.\w+|mtl_plugins(?:\.\w+)+)\.(?=\w)')


def registries() -> dict[str, Registry]:
    """Registries of the package by name, filled."""
    found = {name: value for name, value in vars(registry).items() if isinstance(value, Registry)}
    for value in found.values():
        value.import_from_location()
    return found


def class_pages() -> dict[str, str]:
    """Markdown of each page, by its name."""
    known = registries()
    listed = {name for _, names in PAGES.values() for name in names}
    pages = {}
    for page, (title, names) in PAGES.items():
        chosen = names or [name for name in known if name not in listed]
        parts = [
            f'# {title}\n\nRegistered classes, by the name that `type` gives in a config. `mtl_plugins.registry` holds the '
            'registries; what is not here is found in those of mmseg and mmengine.\n'
        ]
        for name in chosen:
            parts += _registry_sections(name, known[name])
        pages[page] = '\n'.join(parts)
    return pages


def _registry_sections(name: str, registry: Registry) -> Iterator[str]:
    def section(item: tuple[str, type]) -> str:
        return item[1].__module__.split('.')[2].replace('_', ' ').capitalize() if name == 'MODELS' else f'`{name}`'

    # Plug-ins may have registered classes in this process.
    own = [item for item in registry.module_dict.items() if item[1].__module__.startswith(f'{SCOPE}.')]
    for heading, classes in groupby(sorted(own, key=lambda item: (section(item), item[0])), section):
        yield f'## {heading}\n'
        for key, cls in classes:
            yield _describe(key, cls)


def _describe(key: str, cls: type) -> str:
    lines = [f'### {key} {{ #{key} data-toc-label="{key}" }}', '', f'`{cls.__module__}`', '', _signature(key, cls), '']
    for part in Docstring(inspect.getdoc(cls) or '').parse('google', warnings=False):
        kind = part.kind.value
        if kind == 'text':
            lines += [_markdown(part.value), '']
        elif kind in ('parameters', 'attributes'):
            lines += [f'* `{item.name}`: {_in_a_list(item.description)}' for item in part.value] + ['']
        elif kind == 'raises':
            lines += ['Raises:', '', *(f'* `{item.annotation}`: {_in_a_list(item.description)}' for item in part.value), '']
        elif kind == 'examples':
            lines += ['```python', *(str(text) for _, text in part.value), '```', '']
        else:
            raise ValueError(f'The docstring of {key} should have text, Args, Attributes, Raises and Example only. Found {kind}.')
    return '\n'.join(lines)


def _signature(key: str, cls: type) -> str:
    # An entry of a config is keywords: where positional arguments end is of no interest.
    arguments = [_MODULE.sub('', str(item)) for item in inspect.signature(cls).parameters.values()]
    line = f'{key}({", ".join(arguments)})'
    if len(line) > 80:
        line = '\n'.join([f'{key}(', *(f'    {argument},' for argument in arguments), ')'])
    return f'```python\n{line}\n```'


def _in_a_list(text: str) -> str:
    return _markdown(text).replace('\n', '\n    ')


def _markdown(text: str) -> str:
    """Markdown of the reStructuredText that docstrings use: roles and double backquotes."""
    return _ROLE.sub(r'`\1`', text).replace('``', '`').replace('<', '&lt;')
