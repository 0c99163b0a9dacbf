"""Writing a trained model into a folder: weights as safetensors, the config as data, and a card."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
import yaml
from torch import Tensor, nn

from mtl_plugins.evaluation.scores import title_of
from mtl_plugins.models.utils.model_stats import count_parameters
from mtl_plugins.utils.files import make_folder, replacing, save_text
from mtl_plugins.utils.zoo import CARD_NAME, CONFIG_NAME, WEIGHTS_NAME

# Parts of the card and what `about` has for them.
SECTIONS = dict(use='Intended use', data='Data', data_license='Licence of the data', failures='Known failures', note='Notes')
_TRAINED = dict(config='config', commit='commit', command='command', iterations='iterations', seed='seed')


def save_pretrained(
    folder: str | Path, model: nn.Module, config: Mapping[str, Any], *, half: bool = True, about: Mapping[str, Any] | None = None
) -> None:
    """Write a model into a folder that stands for a checkpoint anywhere.

    Args:
        folder: Made if it is missing; its name is that of the model.
        model: With its weights, as :func:`~mtl_plugins.loading.load_model` gives it.
        config: Plain values; at least those that :func:`~mtl_plugins.config.stored_config.restrict` keeps.
        half: Round weights to float16. Those beyond its range stay as they are.
        about: Of the card: what ``mtl zoo`` writes, see ``SECTIONS``.
    """
    folder = Path(folder)
    make_folder(folder)
    weights = {name: (_half(value) if half else value).contiguous().clone() for name, value in model.state_dict().items()}
    data = safetensors.torch.save(weights, metadata=dict(format='pt'))
    with replacing(folder / WEIGHTS_NAME) as temporary:
        temporary.write_bytes(data)
    about = dict(about or {}, parameters=count_parameters(model), megabytes=round(len(data) / 1e6, 2))
    described = dict(sha256=hashlib.sha256(data).hexdigest(), about=about, config=config)
    save_text(folder / CONFIG_NAME, json.dumps(described, indent=1) + '\n')
    save_text(folder / CARD_NAME, write_card(folder.name, described))


def _half(value: Tensor) -> Tensor:
    rounded = value.to(torch.float16) if value.dtype == torch.float32 else value
    return rounded if torch.isfinite(rounded).all() else value


def describe_outputs(config: Mapping[str, Any]) -> str:
    """Return the labels that a model predicts, with their numbers of classes."""
    labels, tasks = config['model']['data_preprocessor'].get('labels') or {}, config['model'].get('tasks') or {}
    order = config['model'].get('task_order') or tasks
    names = [tasks[task].get('label') or task for task in order] or list(labels)
    classes = {name: len(labels.get(name, {}).get('classes') or ()) for name in names}
    return ' and '.join(f'{name} ({count} classes)' if count else name for name, count in classes.items())


def write_card(name: str, described: Mapping[str, Any]) -> str:
    """Return the card of a model as Markdown, with the head in YAML that model hubs read."""
    about, outputs = described['about'], describe_outputs(described['config'])
    scores, is_classes = about.get('scores') or {}, 'classes' in outputs
    head: dict[str, Any] = dict(
        library_name='mtl_plugins',
        license=about.get('license'),
        pipeline_tag='image-segmentation' if is_classes else 'depth-estimation',
        tags=['multi-task-learning', 'dense-prediction', *(['semantic-segmentation'] if is_classes else [])],
    )
    if scores:
        metrics = [dict(type=key, name=title_of(key), value=value) for key, value in scores.items() if '_summary/' in key]
        task, dataset = dict(type=head['pipeline_tag']), dict(name=about['data'], type='image-folder')
        head['model-index'] = [dict(name=name, results=[dict(task=task, dataset=dataset, metrics=metrics)])]
    head = {key: value for key, value in head.items() if value}
    lines = ['---', yaml.safe_dump(head, sort_keys=False, allow_unicode=True, width=1000) + '---', '', f'# {name}', '']
    lines += [f'Predicts {outputs} from one image. {about["parameters"]:,} parameters, {about["megabytes"]:.1f} MB.', '']
    lines += ['```', f'mtl predict {name} photos/ --out predicted', '```', '']
    for key, title in SECTIONS.items():
        lines += [f'## {title}', '', about[key], ''] if about.get(key) else []
    trained = [f'* {title}: `{about[key]}`' for key, title in _TRAINED.items() if about.get(key) is not None]
    lines += ['## Training', '', *trained, ''] if trained else []
    if scores:
        split = about.get('split', 'val')
        lines += ['## Scores', '', f'Of these weights, on the split `{split}` of the data root:', '']
        lines += ['```', f'mtl test {name} --split {split} --data-root DATA', '```', '', '| metric | value |', '|---|--:|']
        lines += [f'| {key} | {value:.3f} |' for key, value in scores.items()] + ['']
    return '\n'.join(lines)
