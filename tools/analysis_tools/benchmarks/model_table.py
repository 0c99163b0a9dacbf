"""Size, cost and speed of the systems beside each other: the measurements behind ``tools/analysis_tools/model_table.py``."""

import sys
from collections.abc import Callable, Mapping

import numpy as np
import torch
from torch import nn

from benchmarks.contenders import Batch, SegmentorStep
from benchmarks.results import ROOT, Options, markdown_table, provenance_in_words
from benchmarks.scenes import render_arrays
from benchmarks.timing import held_mib, interleave, peak_mib
from mtl_plugins.config.load import load_config
from mtl_plugins.errors import ConfigError
from mtl_plugins.models.utils.inference import prepare_for_inference
from mtl_plugins.models.utils.model_stats import KINDS, count_flops, count_parameters, list_parts, parameters_by_kind
from mtl_plugins.registry import MODELS

REFERENCE = 'joint'
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


_TIMES = {'train': 'training time', 'inference': 'inference time'}


def default_configs() -> dict[str, str]:
    """Path of each system's config by its label."""
    return {label: str(ROOT / 'configs' / path) for label, path in SYSTEMS.items()}


def load_models(configs: Mapping[str, str]) -> dict[str, dict]:
    """The model of each config, checked: all of them before anything is measured.

    Raises:
        ConfigError: If a config cannot be read, or has no ``model``.
    """
    models = {}
    for label, path in configs.items():
        config = load_config(path)
        if not config.get('model'):
            raise ConfigError(f'Config {path} should have a `model`. Found {sorted(config.keys())}.')
        models[label] = config.model
    return models


def measure(models: Mapping[str, dict], options: Options, size: int, batch_size: int, amp: bool, speed: bool) -> dict[str, dict]:
    """Parameters, FLOPs, peak memory of a training step and, with ``speed``, times of all rounds and their ratios, by label.

    Training: forward, losses, backward and Adam on one batch of normalised square images, under bfloat16 autocast with ``amp``.
    Inference: from such images to labels and metres, BatchNorm folded, in bfloat16 with ``amp``. Models take turns.
    """
    batch = Batch.from_scenes(render_arrays(batch_size, (size, 2 * size), options.seed), size, options.device)

    def build(label: str) -> nn.Module:
        torch.manual_seed(options.seed)
        return MODELS.build(models[label])

    def training_step(label: str) -> SegmentorStep:
        return SegmentorStep(batch, build(label), bf16=amp)

    def prediction(label: str) -> Callable:
        model = prepare_for_inference(build(label).to(options.device), dtype=torch.bfloat16 if amp else torch.float32)
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


def _measure_alone(step: SegmentorStep, device: str) -> dict:
    model = step.model
    # The first step makes gradients and Adam's moments, which every later one finds.
    step()
    moments = [value for state in step.optimizer.state.values() for value in state.values()]
    gradients = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
    held = held_mib([*model.parameters(), *model.buffers(), *gradients, *moments])
    peak = held + peak_mib(step, device)
    return dict(
        parameters=count_parameters(model),
        parameters_by_kind=parameters_by_kind(model),
        parts=list_parts(model),
        flops=count_flops(model, step.images[:1]),
        peak_training_mib=peak,
        held_mib=held,
    )


def to_markdown(document: dict) -> str:
    """A row per system with a line on each column above, and below it the parts of each system."""
    settings, systems = document['settings'], document['systems']
    times = _TIMES if settings['speed'] else {}
    rows, parts = [], []
    for label, row in systems.items():
        counts = [_millions(row['parameters_by_kind'][kind]) for kind in KINDS]
        cells = [label, *counts, _millions(row['parameters']), f'{row["flops"] / 1e9:.1f}', f'{row["peak_training_mib"]:.0f}']
        for kind in times:
            ratio = row[f'{kind}_ratio']
            quartiles = f'{ratio["median"]:.2f} ({ratio["q1"]:.2f} - {ratio["q3"]:.2f})'
            cells.append('1' if label == REFERENCE else quartiles)
        rows.append(cells)
        named = (f'{name.removeprefix("decode_head.")} {count / 1e3:.1f}' for name, count in row['parts'].items())
        parts.append((label, f'`{row["config"]}`', ', '.join(named)))
    headings = ['system', *KINDS, 'all', 'GFLOPs', 'training memory (MiB)', *times.values()]
    lines = [*_explanation(document), '', *markdown_table(headings, rows), '']
    return '\n'.join(lines + markdown_table(('system', 'config', 'parts, in thousands of parameters'), parts, range(3))) + '\n'


def _explanation(document: dict) -> list[str]:
    settings, made = document['settings'], document['provenance']
    size, batch = f'{settings["size"]}x{settings["size"]}', f'batch {settings["batch_size"]}'
    where = 'max_memory_allocated' if made['device'] != 'cpu' else "the profiler's record of all allocations"
    text = (
        'Parameters in millions; the encoder includes the neck, the rest is predictors, queries, gates and tokens. GFLOPs of a '
        f'forward pass of one {size} image, a multiply-add being two; convolutions, matrix products and attention as they are '
        f'computed. Training memory: the most that torch had allocated at any moment of a step at {batch}, weights, gradients '
        f'and Adam included, by {where}.'
    )
    if settings['speed']:
        text += (
            f' Times over those of `{REFERENCE}` in the same round: medians and, in brackets, quartiles, at {batch}; a training '
            'step with Adam, and predictions from normalised images, BatchNorm folded.'
        )
    if settings['amp']:
        text += ' Training under bfloat16 autocast, inference with bfloat16 weights.'
    return [text, '', provenance_in_words(made, ('torch', 'timm'))]


def _millions(count: int) -> str:
    return f'{count / 1e6:.2f}' if count else ''
