"""Pages about the registered classes: signature, docstring, arguments, as they are when the site is built."""

import inspect
import re
from collections.abc import Callable, Iterator
from itertools import groupby

from griffe import Docstring
from mmengine.registry import Registry

import mtl_plugins.lab.features.feature_hook  # noqa: F401, known to no registry: configs name it in `custom_imports`
from mtl_plugins import MultiTaskInferencer, load_config, registry, train
from mtl_plugins.apis.inference import Prediction
from mtl_plugins.apis.train import TrainingResult
from mtl_plugins.registry import SCOPE

# Page: title, introduction, registries. The last one has what no other has.
PAGES = {
    'data': ('Labels and data', ['LABELS', 'DATASETS', 'TRANSFORMS', 'DATA_SAMPLERS']),
    'models': ('Models', ['MODELS', 'TASK_UTILS']),
    'training': ('Training and evaluation', []),
}

# What the page on Python describes, by the name that a heading gives.
PYTHON = {
    'load_config': load_config,
    'train': train,
    'TrainingResult': TrainingResult,
    'MultiTaskInferencer': MultiTaskInferencer,
    'MultiTaskInferencer.stream': MultiTaskInferencer.stream,
    'MultiTaskInferencer.from_pretrained': MultiTaskInferencer.from_pretrained,
    'MultiTaskInferencer.save_pretrained': MultiTaskInferencer.save_pretrained,
    'Prediction': Prediction,
    'Prediction.pictures': Prediction.pictures,
    'Prediction.side_by_side': Prediction.side_by_side,
}

_ROLE = re.compile(r':(?:class|func|meth|mod|attr|data|obj):`[~.]?([^`]*)`')
_LIBRARIES = r'collections\.abc|typing|numpy|pathlib|torch\.nn\.modules\.\w+|mmengine\.config\.config|mtl_plugins(?:\.\w+)+'
_MODULE = re.compile(rf'\b(?:{_LIBRARIES})\.(?=\w)')


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


def python_sections() -> str:
    """Markdown of the functions and classes of the Python API."""
    return '\n'.join(['\n## Reference\n', *(_describe(name, item, is_called=True) for name, item in PYTHON.items())])


def _registry_sections(name: str, registry: Registry) -> Iterator[str]:
    def section(item: tuple[str, type]) -> str:
        return item[1].__module__.split('.')[2].replace('_', ' ').capitalize() if name == 'MODELS' else f'`{name}`'

    # Plug-ins may have registered classes in this process.
    own = [item for item in registry.module_dict.items() if item[1].__module__.startswith(f'{SCOPE}.')]
    for heading, classes in groupby(sorted(own, key=lambda item: (section(item), item[0])), section):
        yield f'## {heading}\n'
        for key, cls in classes:
            yield _describe(key, cls)


def _describe(key: str, cls: Callable, is_called: bool = False) -> str:
    lines = [f'### {key} {{ #{key} data-toc-label="{key}" }}', '', f'`{cls.__module__}`', '', _signature(key, cls, is_called), '']
    for part in Docstring(inspect.getdoc(cls) or '').parse('google', warnings=False):
        kind = part.kind.value
        if kind == 'text':
            lines += [_markdown(part.value), '']
        elif kind in ('parameters', 'attributes'):
            lines += [f'* `{item.name}`: {_in_a_list(item.description)}' for item in part.value] + ['']
        elif kind == 'raises':
            lines += ['Raises:', '', *(f'* `{item.annotation}`: {_in_a_list(item.description)}' for item in part.value), '']
        elif kind == 'returns':
            lines += ['Returns:', '', *(f'* {_in_a_list(item.description)}' for item in part.value), '']
        elif kind == 'examples':
            lines += ['```python', *(str(text) for _, text in part.value), '```', '']
        else:
            known = 'text, Args, Attributes, Returns, Raises and Example'
            raise ValueError(f'The docstring of {key} should have {known} only. Found {kind}.')
    return '\n'.join(lines)


def _signature(key: str, cls: Callable, is_called: bool) -> str:
    parameters = _parameters(cls)
    arguments = [_MODULE.sub('', str(item)) for item in parameters]
    # An entry of a config is keywords: where positional arguments end is of no interest there.
    keywords = [number for number, item in enumerate(parameters) if item.kind is item.KEYWORD_ONLY]
    if is_called and keywords:
        arguments.insert(keywords[0], '*')
    returned = inspect.signature(cls).return_annotation if is_called and inspect.isroutine(cls) else inspect.Signature.empty
    result = '' if returned is inspect.Signature.empty else f' -> {_MODULE.sub("", inspect.formatannotation(returned))}'
    line = f'{key}({", ".join(arguments)}){result}'
    if len(line) > 80:
        line = '\n'.join([f'{key}(', *(f'    {argument},' for argument in arguments), f'){result}'])
    return f'```python\n{line}\n```'


def _parameters(cls: Callable) -> list[inspect.Parameter]:
    """Parameters of a class, with those of the parents of this package that its ``**kwargs`` go to."""
    parameters: dict[str, inspect.Parameter] = {}
    for parent in inspect.getmro(cls) if inspect.isclass(cls) and cls.__module__.startswith(f'{SCOPE}.datasets') else ():
        if '__init__' in parent.__dict__:
            own = list(inspect.signature(parent.__init__).parameters.values())[1:]
            known = [item for item in own if item.kind in (item.POSITIONAL_OR_KEYWORD, item.KEYWORD_ONLY)]
            parameters |= {item.name: item for item in known if item.name not in parameters}
            if not any(item.kind is item.VAR_KEYWORD for item in own):
                return list(parameters.values())
    return [item for item in inspect.signature(cls).parameters.values() if item.name != 'self']


def _in_a_list(text: str) -> str:
    return _markdown(text).replace('\n', '\n    ')


def _markdown(text: str) -> str:
    """Markdown of the reStructuredText that docstrings use: roles and double backquotes."""
    text = _ROLE.sub(r'`\1`', text).replace('``', '`')
    # Code is escaped by Markdown itself.
    return ''.join(part if part.startswith('`') else part.replace('<', '&lt;') for part in re.split(r'(`[^`]*`)', text))
