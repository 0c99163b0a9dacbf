"""The config that belongs to a checkpoint, found inside it or beside it, and read without running anything.

What others send is not trusted. The text must consist of plain values, and what it asks to be built must be registered classes:
mmengine would import and call whatever a dotted ``type`` names, such as ``subprocess.run``. Of the rest only what predictions
need is kept.
"""

import copy
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mmengine.config import Config, ConfigDict
from mmengine.registry import Registry

from mtl_plugins import registry as registries
from mtl_plugins.errors import ConfigError, UserError
from mtl_plugins.runs.config_data import read_config_dump, read_config_text
from mtl_plugins.runs.record import RECORD_NAME, read_record_file
from mtl_plugins.utils.checkpoint_io import load_checkpoint_file
from mtl_plugins.utils.config import load_config

ADVICE = 'Pass the config it was trained with by `--config` (`config=` in Python), if you trust that file: it is run.'
# Where training starts from, and what it minimises: neither matters to predictions.
_TRAINING_ONLY = ('init_cfg', 'pretrained')
_TASKS_TRAINING_ONLY = ('loss', 'sampler')
_MODEL_TRAINING_ONLY = ('auxiliary_head', 'task_balancing')
_SUFFIXES_OF_FILES = ('.pkl', '.pickle', '.npy', '.npz', '.pth', '.pt', '.json', '.yaml', '.yml', '.py')


def find_config(checkpoint: str | Path, config: str | Path | None = None, options: Mapping[str, Any] | None = None) -> Config:
    """The config of a checkpoint.

    Args:
        checkpoint: File of the weights.
        config: A config to use, which is run as those of trainings are. By default it is the one inside the checkpoint, or else
            that of the record or the dump beside it, read as data.
        options: Overrides of ``config`` by dotted key.

    Raises:
        ConfigError: If there is none, or it holds more than plain values and registered classes.
        CheckpointError: If the checkpoint cannot be read.
    """
    if config is not None:
        return load_config(str(config), dict(options or {}))
    checkpoint = Path(checkpoint)
    content = load_checkpoint_file(checkpoint, map_location='meta')
    found = _read_inside(content, checkpoint) or _read_beside(checkpoint)
    if found is None:
        raise ConfigError(f'{checkpoint} should hold the config it was trained with, or lie beside it. Found none. {ADVICE}')
    data, place = found
    trained = ((content.get('meta') or {}).get('dataset_meta') or {}).get('labels') or ()
    return restrict(data, place, list(trained))


def _read_inside(content: Mapping[str, Any], checkpoint: Path) -> tuple[dict[str, Any], str] | None:
    """The config that mmengine's runner stores as text."""
    holders = (content.get('meta'), (content.get('message_hub') or {}).get('runtime_info'))
    texts = [holder['cfg'] for holder in holders if isinstance(holder, Mapping) and isinstance(holder.get('cfg'), str)]
    if not texts or not texts[0].strip():
        return None
    place = f'The config inside {checkpoint}'
    return _as_data(lambda: read_config_text(texts[0], place), place), place


def _read_beside(checkpoint: Path) -> tuple[dict[str, Any], str] | None:
    """The config in the record of the run, else the newest dump of one."""
    folder = checkpoint.parent
    if (folder / RECORD_NAME).is_file():
        config = read_record_file(folder).get('config')
        if config:
            return config, f'The config in {folder / RECORD_NAME}'
    refused = None
    for path in sorted(folder.glob('*.py'), key=lambda path: path.stat().st_mtime, reverse=True):
        place = f'The config {path}'
        try:
            return _as_data(lambda path=path: read_config_dump(path), place), place
        except ConfigError as error:
            refused = refused or error
    if refused is not None:
        raise refused
    return None


def _as_data(read: Any, place: str) -> dict[str, Any]:
    try:
        return read()
    except (ValueError, SyntaxError, RecursionError, MemoryError, OSError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ConfigError(
            f'{place} should hold plain values only, and is not run. Found other code ({reason}). {ADVICE}'
        ) from error


def restrict(data: Mapping[str, Any], place: str, trained: Sequence[str] = ()) -> Config:
    """What predictions need of a config from elsewhere, checked: model, test pipeline, views of test-time augmentation.

    Args:
        data: Plain values.
        place: Of the config, for the error.
        trained: The labels of the training data in the order of the tasks, where the model does not state its ``task_order``.

    Raises:
        ConfigError: If it has no model, the order of its tasks is not known, or it asks for modules that are not imported, for
            something that is no registered class, or for files or addresses.
    """
    if not isinstance(data.get('model'), Mapping) or 'type' not in data['model']:
        raise ConfigError(f'{place} should hold the config of a model. Found {json.dumps(data.get("model"))[:80]}. {ADVICE}')
    imports = (data.get('custom_imports') or {}).get('imports') or []
    unknown = [name for name in ([imports] if isinstance(imports, str) else imports) if name not in sys.modules]
    if unknown:
        raise ConfigError(f'{place} should need no modules that are not imported yet. Found {", ".join(unknown)}. {ADVICE}')
    model = {key: value for key, value in copy.deepcopy(dict(data['model'])).items() if key not in _MODEL_TRAINING_ONLY}
    for task in (model.get('tasks') or {}).values():
        for key in _TASKS_TRAINING_ONLY:
            task.pop(key, None)
    _set_order(model, place, trained)
    dataset = (data.get('test_dataloader') or {}).get('dataset') or {}
    kept = dict(model=model, pipeline=list(dataset.get('pipeline') or ()), tta_model=data.get('tta_model') or {})
    _check(kept, place)
    return Config(
        dict(
            default_scope=registries.SCOPE,
            model=kept['model'],
            test_dataloader=dict(dataset=dict(pipeline=kept['pipeline'])),
            tta_model=kept['tta_model'] or None,
        )
    )


def _set_order(model: dict[str, Any], place: str, trained: Sequence[str]) -> None:
    """Set the order of the tasks in a model of before configs stated it: where they are written down, keys are sorted."""
    tasks = model.get('tasks') or {}
    if len(tasks) < 2 or model.get('task_order'):
        return
    task_of = {task.get('label') or name: name for name, task in tasks.items()}
    if sorted(task_of) != sorted(trained):
        raise ConfigError(f'{place} should say in which order its tasks {", ".join(tasks)} have their channels. {ADVICE}')
    model['task_order'] = [task_of[label] for label in trained]


def _check(node: Any, place: str, strings: bool = True) -> None:
    """Take the initial weights out of a config and refuse what is not a value or the name of a registered class."""
    if isinstance(node, Mapping):
        for key in _TRAINING_ONLY:
            if key in node:
                node[key] = None
        for key, value in node.items():
            if key == 'type' and not is_registered(value):
                raise ConfigError(f'{place} should name registered classes as `type`. Found {value!r}. {ADVICE}')
            if key.startswith('_'):
                raise ConfigError(f'{place} should have no key {key!r}. {ADVICE}')
            # Labels have names of classes and templates of files, which nothing here reads.
            _check(value, place, strings and key != 'labels')
    elif isinstance(node, (list, tuple)):
        for value in node:
            _check(value, place, strings)
    elif strings and isinstance(node, str) and ('/' in node or '\\' in node or node.lower().endswith(_SUFFIXES_OF_FILES)):
        raise ConfigError(f'{place} should name no files. Found {node!r}. {ADVICE}')


def is_registered(name: Any) -> bool:
    """Whether a ``type`` is a model part, a transform or a kind of label in the registries of this package or those below them.

    Nothing is imported for a name: where no registry knows it, it is not registered.
    """
    if not isinstance(name, str):
        return False
    scope, _, own = name.rpartition('.')
    nodes: list[Registry | None] = [registries.MODELS, registries.LABELS, registries.TRANSFORMS]
    # Those of this package first: importing all of mmseg takes seconds.
    while nodes := [node for node in nodes if node is not None]:
        for node in nodes:
            if scope in ('', node.scope):
                node.import_from_location()
                if own in node.module_dict:
                    return True
        nodes = [node.parent for node in nodes]
    return False


def test_steps(config: Config | ConfigDict) -> list[dict]:
    """The steps of a config's test pipeline that change an image: those between reading and packing."""
    dataset = (config.get('test_dataloader') or {}).get('dataset') or {}
    return [dict(step) for step in (dataset.get('pipeline') or ())[1:-1]]


def describe_failure(checkpoint: str | Path, error: Exception) -> UserError:
    """One sentence for whatever a model raises that is built from a config of unknown origin."""
    reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return ConfigError(f'The model of {checkpoint} cannot be built from the config stored with it ({reason}). {ADVICE}')
