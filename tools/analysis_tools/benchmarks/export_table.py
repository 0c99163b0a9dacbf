"""Which systems go into which exported files, tried out one by one."""

import json
import re
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope
from torch import nn

from benchmarks.results import ROOT, markdown_table
from mtl_plugins.config.load import load_config
from mtl_plugins.deployment.description import Description, describe
from mtl_plugins.deployment.exported_model import ExportedModel, trace
from mtl_plugins.deployment.parity import GATE, LIMITS, Row, compare, gate_images
from mtl_plugins.deployment.runtimes.runtime import load_runtime
from mtl_plugins.deployment.writing import SUFFIXES, to_onnx, to_openvino, write_onnx, write_openvino, write_torch
from mtl_plugins.errors import ConfigError
from mtl_plugins.registry import MODELS

# Names of the formats in the table, in the order of its columns.
FORMATS = {'onnx': 'ONNX', 'openvino': 'OpenVINO', 'torch': 'torch.export'}
# Of graphs for one size, where one for any size is not to be had.
FIXED_SIZE = (224, 224)
# Entries of a model that name its weights, and those that only its training reads.
_WEIGHTS = ('init_cfg',)
_TRAINING = ('loss', 'task_balancing', 'auxiliary_head', 'absent_prob', 'sampler', 'pretrained', *_WEIGHTS)
BEGIN, END = '<!-- Made by tools/deployment/export_table.py: begin -->', '<!-- end -->'


def leaf_configs() -> list[Path]:
    """All configs that can be trained."""
    return sorted(path for path in (ROOT / 'configs').rglob('*.py') if '_base_' not in path.parts)


def fingerprint(config: Config) -> str:
    """What the predictions of a model depend on, without weights: configs that share it have the same graph."""
    return json.dumps(_without(_TRAINING, config.model.to_dict()), default=str, sort_keys=True)


def _without(keys: Sequence[str], node: object) -> object:
    """A part of a config without some entries and, unless these are ``_WEIGHTS`` alone, without a preprocessor's labels."""
    if isinstance(node, Mapping):
        left_out = (*keys, 'labels') if 'mean' in node and keys is not _WEIGHTS else keys
        return {key: _without(keys, value) for key, value in node.items() if key not in left_out}
    return [_without(keys, each) for each in node] if isinstance(node, (list, tuple)) else node


def build(config: Config, seed: int = 0) -> nn.Module:
    """The model of a config with random weights, and running statistics of random images.

    Raises:
        ConfigError: If it predicts no labels.
    """
    init_default_scope(config.get('default_scope', 'mtl_plugins'))
    torch.manual_seed(seed)
    plain = _without(_WEIGHTS, config.model.to_dict())
    model = MODELS.build({**plain, 'pretrained': False} if 'segmentor' in plain else plain)
    if not hasattr(model, 'label_names'):
        raise ConfigError(f'{type(model).__name__} predicts no labels: it learns features for other models')
    with torch.no_grad():
        generator = torch.Generator().manual_seed(seed)
        smooth = torch.rand(2, 3, 16, 16, generator=generator) * 255
        images = torch.nn.functional.interpolate(smooth, size=FIXED_SIZE, mode='bicubic').clamp(0, 255).byte()
        inputs = model.data_preprocessor(dict(inputs=images.permute(0, 2, 3, 1).contiguous()))['inputs']
        # Fresh statistics would let each BatchNorm pass what it gets.
        model.train().encode(inputs)
    return model.eval()


def try_config(path: Path) -> dict:
    """Export the model of a config to all formats, in float32.

    Returns:
        ``formats``: for each format a dict with ``sizes`` (``'any'`` or ``'fixed'``), ``rows`` and ``passed``, or the ``reason``
        why not; ``reason`` alone where there is no model to export; ``seconds``.
    """
    start = time.perf_counter()
    try:
        model = build(load_config(str(path)))
    except ConfigError as error:
        return dict(reason=_sentence(error))
    result: dict = dict(formats={})
    for size in (None, FIXED_SIZE):
        missing = [name for name in FORMATS if 'rows' not in result['formats'].get(name, {})]
        if not missing:
            break
        result['formats'].update(_try_size(model, size, missing, result['formats']))
    return dict(result, seconds=round(time.perf_counter() - start, 1))


def _try_size(model: nn.Module, size: tuple[int, int] | None, names: list[str], before: Mapping[str, dict]) -> dict[str, dict]:
    """The result of each of some formats; where a fixed size helps, with the reason why any size does not work."""
    reasons = {name: before.get(name, {}).get('reason') for name in names}
    try:
        program = trace(ExportedModel(model), size=size)
    except ConfigError as error:
        return {name: dict(reason=reasons[name] or _sentence(error)) for name in names}
    results, graph = {}, None
    for name in names:
        description = describe(model, size=size)
        try:
            if name != 'torch' and graph is None:
                graph = to_onnx(program, description)
            rows = _check(model, name, program if name == 'torch' else graph, description)
            results[name] = dict(
                sizes='fixed' if size else 'any',
                passed=all(row.passed for row in rows),
                rows=[_plain(row) for row in rows],
                **({'why_fixed': reasons[name]} if size else {}),
            )
        except Exception as error:
            results[name] = dict(reason=reasons[name] or _sentence(error))
    return results


def _check(model: nn.Module, name: str, graph: object, description: Description) -> list[Row]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f'model{SUFFIXES[name]}'
        if name == 'torch':
            write_torch(graph, description, path)
        elif name == 'onnx':
            write_onnx(graph, description, path)
        else:
            write_openvino(to_openvino(graph), description, path)
        return compare(model, load_runtime(path), gate_images(description), LIMITS['float32'])


def _plain(row: Row) -> dict:
    return {**vars(row), 'error': None if np.isnan(row.error) else row.error}


def _sentence(error: BaseException) -> str:
    text = str(error).strip().splitlines() or [type(error).__name__]
    return re.sub(r' A fixed size may work:.*', '', text[0]).rstrip('.')


def outcome_of(result: Mapping) -> str:
    """A line for the terminal."""
    if 'reason' in result:
        return result['reason']
    return '; '.join(f'{name} {_cell(each)} {each.get("reason", "")}'.strip() for name, each in result['formats'].items())


def to_markdown(document: Mapping) -> str:
    """The table: a row per config, and below it the reasons."""
    results, made = document['results'], document['provenance']
    sizes = ', '.join('x'.join(map(str, shape)) for shape in GATE)
    fixed = 'x'.join(map(str, FIXED_SIZE))
    commits = sorted({result['commit'] for result in results.values() if 'commit' in result})
    made_at = f'commits {", ".join(commits)}, the last one' if len(commits) > 1 else f'commit {"".join(commits)}'
    text = (
        f'{len(results)} configs with random weights, in float32, at {sizes} (images, height, width), or three batches of '
        f'{fixed} where the graph is for one size; rows were made at the {made_at} on {made["date"][:10]}, with torch '
        f'{made["versions"]["torch"]}. In brackets the pixels whose class rounding decided, and the largest difference of other '
        'values, of all labels.'
    )
    rows = []
    notes: dict[str, int] = {}
    for path, result in results.items():
        cells = []
        for name in FORMATS:
            cell = result if 'reason' in result else result['formats'][name]
            reason = cell.get('reason') or cell.get('why_fixed')
            note = f' [{notes.setdefault(reason, len(notes) + 1)}]' if reason else ''
            cells.append(_cell(cell) + note)
        rows.append((f'`{path}`', *cells))
    reasons = [f'{number}. {reason}.' for reason, number in notes.items()]
    return '\n'.join([text, '', *markdown_table(('config', *FORMATS.values()), rows, range(4)), '', *reasons]) + '\n'


def _cell(cell: Mapping) -> str:
    if 'rows' not in cell:
        return 'no'
    ties = sum(row['ties'] for row in cell['rows'])
    errors = [row['error'] for row in cell['rows'] if row['error'] is not None]
    numbers = [f'{ties} px'] if any(row['is_class'] for row in cell['rows']) else []
    numbers += [f'{max(errors):.0e}'] if errors else []
    verdict = ('any size' if cell['sizes'] == 'any' else 'one size') if cell['passed'] else '**differs**'
    return f'{verdict} ({", ".join(numbers)})'


def insert(page: str, table: str) -> str:
    """A page with the table between its two marks.

    Raises:
        ConfigError: If it has not got them.
    """
    if BEGIN not in page or END not in page:
        raise ConfigError(f'The page should hold the lines {BEGIN} and {END}. Found none.')
    before, rest = page.split(BEGIN, 1)
    return f'{before}{BEGIN}\n\n{table}\n{END}{rest.split(END, 1)[1]}'
