"""Size, cost and speed of the systems: the measurements behind ``tools/analysis_tools/model_table.py``."""

import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import torch
from torch import nn

from benchmarks.contenders import Batch, TrainingStep, our_step
from benchmarks.results import ROOT, Options, provenance_in_words
from benchmarks.scenes import render_arrays
from benchmarks.timing import held_mib, interleave, peak_mib
from mtl_plugins.config.load import load_config
from mtl_plugins.errors import ConfigError, CorruptFileError
from mtl_plugins.lab.tables import Table, to_markdown
from mtl_plugins.models.utils.inference import prepare_for_inference
from mtl_plugins.models.utils.model_stats import KINDS, count_flops, count_parameters, parameters_by_kind
from mtl_plugins.registry import MODELS
from mtl_plugins.utils.data_files import read_json, shorten

REFERENCE = 'joint'
# Columns of both tables.
COSTS = (*KINDS, 'all', 'GFLOPs')
# Label and config of each system.
SYSTEMS = {
    'baseline': 'baseline/baseline_r18-d32_1xb16-16e_miniscapes-256x256.py',
    'DeepLabV3+, semseg': 'deeplabv3plus/deeplabv3plus-semseg_r18-d16_1xb16-32e_miniscapes-256x256.py',
    'DeepLabV3+, depth': 'deeplabv3plus/deeplabv3plus-depth_r18-d16_1xb16-32e_miniscapes-256x256.py',
    REFERENCE: 'joint/joint_r18-d16_1xb16-32e_miniscapes-256x256.py',
    'joint, skips 8, 4, 2': 'joint/joint_r18-d16_1xb16-32e_skips-8-4-2_miniscapes-256x256.py',
    'branched': 'branched/branched_r18-d16_1xb16-32e_miniscapes-256x256.py',
    'distilled': 'distilled/distilled_r18-d16_1xb16-32e_miniscapes-256x256.py',
    'distilled, deep': 'distilled/distilled_r18-d16_1xb16-32e_deep_miniscapes-256x256.py',
    'fixed bins': 'fixed_bins/fixed_bins_r18-d16_1xb16-32e_miniscapes-256x256.py',
    'adaptive depth': 'adaptive_depth/adaptive_depth_r18-d16_1xb16-32e_miniscapes-256x256.py',
    'transformer, self': 'transformer_multitask/transformer_multitask-self_r18-d16_1xb16-32e_miniscapes-256x256.py',
    'transformer, cross': 'transformer_multitask/transformer_multitask-cross_r18-d16_1xb16-32e_miniscapes-256x256.py',
}

# Further forms of them, whose parameters and FLOPs are counted alone.
OTHER_FORMS = (
    'joint/joint_r18-d16_1xb16-32e_se-encoder-aspp_miniscapes-256x256.py',
    'joint/joint_r18-d16_1xb16-32e_se-per-task_miniscapes-256x256.py',
    'joint/joint_r18-d16_1xb16-10e_scale-attention_miniscapes-256x256.py',
    'distilled/distilled_r18-d16_1xb16-32e_3x3-gates_miniscapes-256x256.py',
    'distilled/distilled_r18-d16_1xb16-32e_full_miniscapes-256x256.py',
    'joint/joint_r34-d16_1xb4-64e_course2020-pretrained_miniscapes-256x256.py',
    'branched/branched_r34-d16_1xb4-64e_course2020-pretrained_miniscapes-256x256.py',
    'distilled/distilled_r34-d16_1xb4-64e_course2020-pretrained_miniscapes-256x256.py',
    'distilled/distilled_r34-d16_1xb4-64e_course2020-deep-pretrained_miniscapes-256x256.py',
    'fixed_bins/fixed_bins_r18-d16_1xb16-32e_argmax-pretrained_miniscapes-256x256.py',
    'adaptive_depth/adaptive_depth_r18-d16_1xb16-32e_course2025-pretrained_miniscapes-256x256.py',
    'adaptive_depth/adaptive_depth_r18-d16_1xb16-32e_course2025-encoder-latents-pretrained_miniscapes-256x256.py',
    'adaptive_depth/adaptive_depth_r18-d16_1xb16-32e_course2025-aspp-latents-pretrained_miniscapes-256x256.py',
    'adaptive_depth/adaptive_depth_r18-d16_1xb16-32e_course2025-width512-pretrained_miniscapes-256x256.py',
    'transformer_multitask/transformer_multitask-self_r18-d16_1xb16-32e_course2025-pretrained_miniscapes-256x256.py',
    'transformer_multitask/transformer_multitask-cross_r18-d16_1xb16-32e_course2025-pretrained_miniscapes-256x256.py',
)


def default_configs() -> dict[str, str]:
    """Return the path of each system's config by its label."""
    return {label: str(ROOT / 'configs' / path) for label, path in SYSTEMS.items()}


def load_models(configs: Mapping[str, str]) -> dict[str, dict]:
    """Return the model of each config; `ConfigError` if one has none."""
    models = {}
    for label, path in configs.items():
        config = load_config(path)
        if not config.get('model'):
            raise ConfigError(f'Config {path} should have a `model`. Found {sorted(config.keys())}.')
        models[label] = config.model
    return models


def measure(models: Mapping[str, dict], options: Options, size: int, batch_size: int, speed: bool) -> dict[str, dict]:
    """Return parameters, FLOPs, peak memory of a training step and, with ``speed``, times and their ratios, by label.

    Training: forward, losses, backward and Adam on one batch of normalised square images. Inference: from such images to labels
    and metres, BatchNorm folded. Models take turns.
    """
    batch = Batch.from_scenes(render_arrays(batch_size, (size, 2 * size), options.seed), (size, size), options.device)

    def build(label: str) -> nn.Module:
        torch.manual_seed(options.seed)
        return MODELS.build(models[label])

    def training_step(label: str) -> TrainingStep:
        return our_step(batch, build(label))

    def prediction(label: str) -> Callable:
        model = prepare_for_inference(build(label).to(options.device))
        return torch.inference_mode()(lambda: model.predict_arrays(batch.images))

    rows = {}
    for label in models:
        print(f'{label}: parameters, FLOPs, memory', file=sys.stderr, flush=True)
        rows[label] = _measure_alone(training_step(label), options.device)
    for kind, make in dict(train=training_step, inference=prediction).items() if speed else ():
        print(f'{kind}: {options.repeats} rounds', file=sys.stderr, flush=True)
        contenders = {label: make(label) for label in models}
        times = interleave(contenders, options.repeats, warmup=1, device=options.device)
        for label, values in times.items():
            q1, median, q3 = np.percentile(np.divide(values, times[REFERENCE]), (25, 50, 75)).tolist()
            rows[label] |= {f'{kind}_ms': values, f'{kind}_ratio': dict(median=median, q1=q1, q3=q3)}
    return rows


def _measure_alone(step: TrainingStep, device: str) -> dict:
    model = step.model
    # The first step makes gradients and Adam's moments, which every later one finds.
    step()
    moments = [value for state in step.optimizer.state.values() for value in state.values()]
    gradients = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
    held = held_mib([*model.parameters(), *model.buffers(), *gradients, *moments])
    counts = count(model, tuple(step.images.shape[2:]))
    return dict(**counts, peak_training_mib=held + peak_mib(step, device), held_mib=held)


def count(model: nn.Module, size: tuple[int, int]) -> dict:
    """Return the parameters of a model, also by kind, and the FLOPs of one image of a height and width."""
    return dict(parameters=count_parameters(model), parameters_by_kind=parameters_by_kind(model), flops=count_flops(model, size))


def count_other_forms(size: int) -> dict[str, dict]:
    """Return :func:`count` of each of ``OTHER_FORMS``, by the path of its config, for square images."""
    paths = [f'configs/{path}' for path in OTHER_FORMS]
    models = load_models({path: str(ROOT / path) for path in paths})
    return {path: count(MODELS.build(model), (size, size)) for path, model in models.items()}


def read_document(path: Path) -> dict:
    """Return the content of a ``model_table.json``; `CorruptFileError` if it is something else."""
    document = read_json(path, 'table', {})
    try:
        to_text(document)
    except (AttributeError, LookupError, TypeError, ValueError) as error:
        raise CorruptFileError(
            f"'{path}' should be a model_table.json that model_table.py wrote. Found the keys {shorten(sorted(document))}."
        ) from error
    return document


def to_text(document: dict) -> str:
    """Return a row per system in Markdown, below a line on each column, and a table of the configs."""
    settings, made = document['settings'], document['provenance']
    size, batch = f'{settings["size"]}x{settings["size"]}', f'batch {settings["batch_size"]}'
    where = 'max_memory_allocated' if made['device'] != 'cpu' else "the profiler's record of all allocations"
    text = (
        'Parameters in millions; the encoder includes the neck, the rest is predictors, queries, gates and tokens. GFLOPs of a '
        f'forward pass of one {size} image, a multiply-add being two; convolutions, matrix products and attention as they are '
        f'computed. Training memory: the most that torch had allocated at any moment of a step at {batch}, weights, gradients '
        f'and Adam included, by {where}.'
    )
    times = {}
    if settings['speed']:
        times = dict(train='training time', inference='inference time')
        text += (
            f' Times over those of `{REFERENCE}` in the same round: medians and, in brackets, quartiles, at {batch}; a training '
            'step with Adam, and predictions from normalised images, BatchNorm folded.'
        )
    rows = []
    for label, row in document['systems'].items():
        cells = [label, *_costs(row), f'{row["peak_training_mib"]:.0f}']
        for kind in times:
            ratio = row[f'{kind}_ratio']
            quartiles = f'{ratio["median"]:.2f} ({ratio["q1"]:.2f} - {ratio["q3"]:.2f})'
            cells.append('1' if label == REFERENCE else quartiles)
        rows.append(cells)
    titles = ['system', *COSTS, 'training memory (MiB)', *times.values()]
    configs = [[label, f'`{row["config"]}`'] for label, row in document['systems'].items()]
    tables = f'{to_markdown(Table(titles, rows))}\n{to_markdown(Table(["system", "config"], configs))}'
    return f'{text}\n\n{provenance_in_words(made, ("torch", "timm"))}\n\n{tables}'


def other_forms_to_text(forms: Mapping[str, dict]) -> str:
    """Return a section in Markdown with a row per config; ``forms`` are those of :func:`count_other_forms`."""
    rows = [[f'`{path}`', *_costs(row)] for path, row in forms.items()]
    text = 'Parameters in millions and GFLOPs as above; memory and times are not measured.'
    return f'\n## Other forms\n\n{text}\n\n{to_markdown(Table(["config", *COSTS], rows))}'


def _costs(row: dict) -> list[str]:
    counts = [f'{number / 1e6:.2f}' if number else '' for number in (*row['parameters_by_kind'].values(), row['parameters'])]
    return [*counts, f'{row["flops"] / 1e9:.1f}']
