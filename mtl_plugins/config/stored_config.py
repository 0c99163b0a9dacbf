"""Configs stored in checkpoints and records, read without running anything.

What others send is not trusted. The text must consist of plain values, and what it asks to be built must be registered classes:
mmengine would import and call whatever a dotted ``type`` names, such as ``subprocess.run``. Only what is needed is kept.
"""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mmengine.config import Config

from mtl_plugins.config.links import set_data_root
from mtl_plugins.config.load import CONFIGS, DATA_ROOT_VARIABLE, apply_options, load_config
from mtl_plugins.datasets.loading import collate  # noqa: F401  # mmengine's function registry has no locations.
from mtl_plugins.errors import ConfigError
from mtl_plugins.records.config_data import read_config_text
from mtl_plugins.records.record import RECORD_NAME, read_record_file
from mtl_plugins.registry import DATA_SAMPLERS, DATASETS, HOOKS, LOOPS, METRICS, MODELS, SCOPE, TASK_UTILS, TRANSFORMS
from mtl_plugins.utils.checkpoint_io import load_checkpoint_file
from mtl_plugins.utils.data_files import PLUGINS_ADVICE, refuse_imports, shorten, take_part
from mtl_plugins.utils.zoo import CONFIG_NAME, WEIGHTS_NAME, locate_checkpoint, read_description

ADVICE = 'Pass the config it was trained with by `--config` (`config=` in Python), if you trust that file: it is run.'
# Predictions do not need it.
_TASKS_TRAINING_ONLY = ('loss', 'sampler')
_MODEL_TRAINING_ONLY = ('auxiliary_head', 'task_balancing')


def find_config(
    checkpoint: str | Path,
    config: str | Path | None = None,
    options: Mapping[str, Any] | None = None,
    data_root: str | None = None,
    loaders: Sequence[str] = (),
    training: bool = False,
) -> Config:
    """Return the config of a checkpoint.

    Args:
        checkpoint: File of the weights, or a model of the zoo.
        config: A config to use, which is executed. By default it is the one inside the checkpoint, or else that of
            ``config.json`` or of the record in its folder, read as data: model, test pipeline and test-time augmentation.
        options: Overrides by dotted key.
        data_root: Replaces the data root of all data sets, as the environment variable ``MTL_DATA_ROOT`` does.
        loaders: Names of data loaders that a stored config should have; with them come evaluators and loops.
        training: Keep of a stored config what only a training needs: losses, and the hook that looks at features.

    Raises:
        ConfigError: If there is none, or it holds more than plain values and registered classes.
        CheckpointError: If the checkpoint cannot be read.
    """
    if config is not None:
        return load_config(str(config), dict(options or {}), data_root)
    checkpoint = locate_checkpoint(checkpoint)
    described = read_description(checkpoint.parent).get('config') if checkpoint.name == WEIGHTS_NAME else None
    content = load_checkpoint_file(checkpoint, map_location='meta') if described is None else {}
    meta = _mapping(content.get('meta'))
    place, data = f'The config inside {checkpoint}', described
    if data is not None:
        place = f'The config in {checkpoint.with_name(CONFIG_NAME)}'
    elif isinstance(meta.get('cfg'), str) and meta['cfg'].strip():
        try:
            data = read_config_text(meta['cfg'], place)
        except (ValueError, SyntaxError, RecursionError, MemoryError) as error:
            raise ConfigError(
                f'{place} should hold plain values only, and is not run. Found other code ({shorten(error, 300)}). {ADVICE}'
            ) from error
    elif (record := checkpoint.with_name(RECORD_NAME)).is_file():
        place, data = f'The config in {record}', read_record_file(checkpoint.parent).get('config')
    if data is None:
        raise ConfigError(f'{checkpoint} does not hold the config it was trained with. {ADVICE}')
    found = restrict(data, place, list(_mapping(_mapping(meta.get('dataset_meta')).get('labels'))), training)
    # Named as the run is: the folder of a test is that of its training.
    name = f'{checkpoint.absolute().parent.name}.py'
    runtime, parts = Config(), {}
    if loaders:
        runtime = Config.fromfile(CONFIGS / '_base_/default_runtime.py')
        wanted = {*loaders, *(name for name in ('val_dataloader', 'test_dataloader') if data.get(name))}
        parts = {name: take_loader(data, name, place, ADVICE) for name in sorted(wanted)}
        for name, registry in dict(val_evaluator=METRICS, test_evaluator=METRICS, val_cfg=LOOPS, test_cfg=LOOPS).items():
            parts[name] = take_part(data.get(name), place, registry, advice=ADVICE)
        parts['submission'] = take_part(data.get('submission'), place, advice=ADVICE)
        # Its pipeline alone is no loader, and hooks are for training.
        found.pop('test_dataloader')
        runtime.pop('default_hooks')
    if training:
        given = [*_mapping(data.get('default_hooks')).values(), *(data.get('custom_hooks') or ())]
        hooks = [hook for hook in given if _mapping(hook).get('type') == 'FeatureHook']
        parts['custom_hooks'] = take_part(hooks, place, HOOKS, advice=ADVICE)
    found = Config({**runtime._cfg_dict, **found._cfg_dict, **parts}, cfg_text=' ', filename=name)
    apply_options(found, dict(options or {}))
    data_root = data_root or os.environ.get(DATA_ROOT_VARIABLE)
    if loaders and data_root:
        set_data_root(found, data_root)
    return found


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def restrict(data: Mapping[str, Any], place: str, trained: Sequence[str] = (), training: bool = False) -> Config:
    """Return what predictions need of a config from elsewhere, checked: model, test pipeline, views of test-time augmentation.

    Args:
        data: Plain values.
        place: Of the config, for the error.
        trained: The labels of the training data in the order of the tasks, where the model does not state its ``task_order``.
        training: Keep what only a training needs of the model, such as losses.

    Raises:
        ConfigError: If it has no model, the order of its tasks is not known, or it asks for modules that are not imported, for
            something that is no registered class, or for files or addresses.
    """
    of_model, of_tasks = ((), ()) if training else (_MODEL_TRAINING_ONLY, _TASKS_TRAINING_ONLY)
    model = {key: value for key, value in model_of(data, place, ADVICE).items() if key not in of_model}
    tasks = model.get('tasks') or {}
    if not isinstance(tasks, Mapping) or not all(isinstance(task, Mapping) for task in tasks.values()):
        raise ConfigError(f'{place} should hold the configs of tasks by name. Found {shorten(tasks)}. {ADVICE}')
    if tasks:
        model['tasks'] = {
            name: {key: value for key, value in task.items() if key not in of_tasks} for name, task in tasks.items()
        }
    _set_order(model, place, trained)
    pipeline = _mapping(_mapping(data.get('test_dataloader')).get('dataset')).get('pipeline')
    return Config(
        dict(
            default_scope=SCOPE,
            model=take_part(model, place, MODELS, TASK_UTILS, advice=ADVICE),
            test_dataloader=dict(dataset=dict(pipeline=take_part(pipeline or [], place, TRANSFORMS, advice=ADVICE))),
            tta_model=take_part(data.get('tta_model') or None, place, MODELS, TRANSFORMS, advice=ADVICE),
        )
    )


def take_loader(data: Mapping[str, Any], name: str, place: str, advice: str = PLUGINS_ADVICE) -> dict[str, Any]:
    """Return a data loader of a config that is data, checked, with no more workers than there are cores."""
    loader = data.get(name)
    if not isinstance(loader, Mapping) or not isinstance(loader.get('dataset'), Mapping):
        raise ConfigError(f'{place} should hold a `{name}`. Found {shorten(loader)}.')
    part = take_part(loader, place, DATASETS, DATA_SAMPLERS, advice=advice, paths=True)
    if isinstance(part.get('num_workers'), int):
        part['num_workers'] = min(part['num_workers'], os.cpu_count() or 1)
    return part


def model_of(data: Mapping[str, Any], place: str, advice: str = '') -> Mapping[str, Any]:
    """Return the model of a config that is data, and refuse a config without one, or that asks for imports."""
    if not isinstance(data.get('model'), Mapping) or 'type' not in data['model']:
        raise ConfigError(f'{place} should hold the config of a model. Found {shorten(data.get("model"))}. {advice}'.rstrip())
    refuse_imports(data, place, advice or PLUGINS_ADVICE)
    return data['model']


def _set_order(model: dict[str, Any], place: str, trained: Sequence[str]) -> None:
    """Set the order of the tasks in a stored model that does not state it: stored keys are sorted."""
    tasks = model.get('tasks') or {}
    if len(tasks) < 2 or model.get('task_order'):
        return
    task_of = {str(task.get('label') or name): name for name, task in tasks.items()}
    if sorted(task_of) != sorted(map(str, trained)):
        raise ConfigError(f'{place} should say in which order its tasks {", ".join(tasks)} have their channels. {ADVICE}')
    model['task_order'] = [task_of[label] for label in trained]
