"""Putting a trained model into the zoo: its folder, its scores, its card, and the table of all models."""

import hashlib
import math
import re
import shlex
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml

from mtl_plugins.apis.inference import MultiTaskInferencer
from mtl_plugins.apis.inference.pretrained import describe_outputs, save_pretrained
from mtl_plugins.apis.test import test
from mtl_plugins.config.options import set_work_dir
from mtl_plugins.config.stored_config import ADVICE, find_config
from mtl_plugins.errors import ArgumentError, CheckpointError, DataError
from mtl_plugins.evaluation.scores import SUMMARY_MULTITASK, SUMMARY_UNCLIPPED, title_of
from mtl_plugins.loading import load_model
from mtl_plugins.records.provenance import processor_name
from mtl_plugins.records.record import read_record_file
from mtl_plugins.utils import zoo
from mtl_plugins.utils.checkpoint_io import find_latest_checkpoint
from mtl_plugins.utils.files import make_folder, replace_folder, save_text, scratch_folder

_NAME = re.compile(r'[a-z0-9]+(-[a-z0-9]+)*')
# What is kept of the config of a run: what predictions and tests need, and the recipe.
_KEPT = 'model train_dataloader val_dataloader test_dataloader val_evaluator optim_wrapper param_scheduler train_cfg'.split()
_KEPT += 'test_evaluator val_cfg test_cfg custom_hooks tta_model log_processor randomness'.split()
ROOT = zoo.ZOO.parents[1]
INDEX, PAGE = 'model-index.yml', 'docs/zoo.md'
PROBE_THREADS = 2
_BEGIN, _END = '<!-- The table is made by `mtl zoo`. -->\n', '<!-- End of the table. -->\n'


def add_model(name: str, run: Path, data_root: str, about: Mapping[str, Any]) -> Path:
    """Write the model of a run into the zoo, in float16, with the scores of that file, and return its folder.

    Args:
        name: Lower-case words and numbers, joined by hyphens.
        run: A work dir, whose newest checkpoint is taken, or a checkpoint in one.
        data_root: Folder of the data; the test split is scored if the config has an evaluator for it, else the validation split.
        about: For the card, see :data:`~mtl_plugins.apis.inference.pretrained.SECTIONS`; ``config`` and ``command`` replace
            those that the run recorded.

    Raises:
        UserError: If the name, the run or the data cannot be used; a model that had the name stays.
    """
    if not _NAME.fullmatch(name):
        raise ArgumentError(f'`name` should be lower-case words and numbers joined by hyphens, as camvid-semseg. Found {name!r}.')
    checkpoint = find_latest_checkpoint(run) if run.is_dir() else str(run)
    if checkpoint is None:
        raise CheckpointError(f'{run} has no checkpoint. Give the work dir of a training that has saved one.')
    record = read_record_file(Path(checkpoint).parent)
    kept = {key: _without_places(record['config'][key]) for key in _KEPT if record['config'].get(key)}
    model = load_model(find_config(checkpoint), checkpoint, ADVICE)
    about = dict(
        config=record.get('config_file'),
        commit=(record.get('code') or {}).get('commit'),
        command=_portable(record['sessions'][-1]['command']),
        iterations=record['progress']['iter'],
        seed=record.get('seed'),
    ) | {key: value for key, value in about.items() if value}
    make_folder(zoo.ZOO)
    with scratch_folder(zoo.ZOO / name) as hidden:
        folder = hidden / name
        save_pretrained(folder, model, kept)
        about['split'] = 'test' if kept.get('test_evaluator') else 'val'
        config = find_config(folder, data_root=data_root, loaders=(f'{about["split"]}_dataloader',))
        with tempfile.TemporaryDirectory() as logs:
            set_work_dir(config, logs)
            scores = test(config, str(folder), about['split'])
        # A class without pixels has no score.
        about['scores'] = {key: value for key, value in scores.items() if math.isfinite(value)}
        if not summaries(about):
            raise DataError(f"The split '{about['split']}' of {data_root} has no labels to score the model by.")
        about['probe'] = probe(MultiTaskInferencer(folder, device='cpu'))
        save_pretrained(folder, model, kept, about=about)
        replace_folder(folder, zoo.ZOO / name)
    write_tables()
    return zoo.ZOO / name


def _without_places(node: Any) -> Any:
    """Return a part of a config without the folders of the machine that it was trained on."""
    if isinstance(node, dict):
        return {key: 'data' if key == 'data_root' else _without_places(value) for key, value in node.items()}
    if isinstance(node, list):
        return [_without_places(value) for value in node]
    return Path(node).name if isinstance(node, str) and Path(node).is_absolute() else node


def _portable(command: str) -> str:
    """Return a recorded command without folders of the machine, and without the work dir."""
    words = re.sub(r' --work-dir[ =]\S+', '', command)
    return shlex.join(Path(word).name if Path(word).is_absolute() else word for word in shlex.split(words))


def probe_images() -> list[np.ndarray]:
    """Return two images, the same on every machine: waves, and blocks of colours."""
    y, x = np.mgrid[:96, :160]
    waves = np.stack([(x * y // 37) % 256, (3 * x + y) % 256, (5 * y) % 256], axis=-1)
    blocks = np.stack([(x // 24 * 67 + y // 16 * 41 + 85 * channel) % 256 for channel in range(3)], axis=-1)
    return [waves.astype(np.uint8), blocks.astype(np.uint8)]


def probe(inferencer: MultiTaskInferencer) -> dict[str, Any]:
    """Return the predictions of two images: the digest of all, a few values of each label, and the kind of machine."""
    threads = torch.get_num_threads()
    # Another number of threads adds in another order.
    torch.set_num_threads(PROBE_THREADS)
    try:
        predictions = inferencer(probe_images())
    finally:
        torch.set_num_threads(threads)
    maps = {name: np.stack([each.values[name] for each in predictions]) for name in inferencer.labels}
    digest = hashlib.sha256(b''.join(values.tobytes() for values in maps.values())).hexdigest()
    few = {name: ' '.join(f'{value:.5g}' for value in values[:, 8::16, 8::16].ravel()) for name, values in maps.items()}
    machine = f'{processor_name()}, {torch.backends.cpu.get_cpu_capability()}, torch {torch.__version__}'
    return dict(machine=machine, sha256=digest, values=few)


def summaries(about: Mapping[str, Any]) -> dict[str, float]:
    """Return the scores of tables by their titles."""
    left_out = (SUMMARY_MULTITASK, SUMMARY_UNCLIPPED)
    return {title_of(key): value for key, value in about['scores'].items() if '_summary/' in key and key not in left_out}


def describe_zoo() -> dict[str, dict[str, Any]]:
    """Return ``config.json`` of each model by name."""
    return {name: zoo.read_description(zoo.ZOO / name) for name in zoo.zoo_names()}


def index_text() -> str:
    """Return ``model-index.yml``, in the form of OpenMMLab's."""
    models = [
        {
            'Name': name,
            'Config': about['config'],
            'Weights': f'mtl_plugins/zoo/{name}/{zoo.WEIGHTS_NAME}',
            'Metadata': {'Training Data': about['data'], 'Parameters': about['parameters'], 'SHA-256': found['sha256']},
            'Results': [{'Task': describe_outputs(found['config']), 'Dataset': about['data'], 'Metrics': summaries(about)}],
        }
        for name, found in describe_zoo().items()
        for about in [found['about']]
    ]
    return yaml.safe_dump(dict(Models=models), sort_keys=False, allow_unicode=True, width=1000)


def table_text() -> str:
    """Return the table of the zoo in Markdown."""
    rows = ['| model | predicts | data | scores | parameters | MB | config |', '|---|---|---|---|--:|--:|---|']
    for name, found in describe_zoo().items():
        about = found['about']
        scores = ', '.join(f'{title} {value:.2f}' for title, value in summaries(about).items())
        card, config = f'../mtl_plugins/zoo/{name}/{zoo.CARD_NAME}', f'`{Path(about["config"]).name}`'
        cells = [f'[`{name}`]({card})', describe_outputs(found['config']), about['data'], scores]
        cells += [f'{about["parameters"] / 1e6:.2f} M', f'{about["megabytes"]:.1f}']
        cells += [f'[{config}](../{about["config"]})' if (ROOT / about['config']).is_file() else config]
        rows.append(f'| {" | ".join(cells)} |')
    return '\n'.join(rows) + '\n'


def page_text(page: str) -> str:
    """Return the page of the zoo with the table of now."""
    head, _, rest = page.partition(_BEGIN)
    return f'{head}{_BEGIN}\n{table_text()}\n{_END}{rest.partition(_END)[2]}'


def write_tables() -> None:
    """Write ``model-index.yml`` and the table of the page, where the package is a clone of the repository."""
    page = ROOT / PAGE
    if page.is_file():
        save_text(page, page_text(page.read_text(encoding='utf-8')))
        save_text(ROOT / INDEX, index_text())
