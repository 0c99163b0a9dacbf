"""Size, cost and speed of the systems beside each other: the measurements behind ``tools/analysis_tools/model_table.py``."""

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from benchmarks.allocated_memory import held_mib, peak_mib
from benchmarks.provenance import ROOT
from benchmarks.results import Options
from benchmarks.scenes import render_arrays
from benchmarks.timing import interleave
from benchmarks.training_steps import Batch, SegmentorStep
from mtl_plugins.config.load import load_config
from mtl_plugins.errors import ConfigError
from mtl_plugins.models.utils.inference import prepare_for_inference
from mtl_plugins.models.utils.model_stats import count_flops, count_parameters, list_parts, parameters_by_kind
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


@dataclass(frozen=True)
class Setting:
    """On what the models run: square images of ``size`` pixels, ``batch_size`` of them, in bfloat16 if ``amp``."""

    size: int = 256
    batch_size: int = 4
    amp: bool = False
    speed: bool = True


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


def measure(models: Mapping[str, dict], options: Options, setting: Setting) -> dict[str, dict]:
    """Parameters, FLOPs, peak memory of a training step and, where asked for, the times of all rounds, by label.

    Training: forward, losses, backward and Adam on one batch of normalised images. Inference: from such images to labels and
    metres, BatchNorm folded. Models take turns, round by round; :func:`ratios` compares within rounds.
    """
    scenes = render_arrays(setting.batch_size, (setting.size, 2 * setting.size), options.seed)
    batch = Batch.from_scenes(scenes, setting.size, options.device)
    rows = {}
    for label, config in models.items():
        _say(f'{label}: parameters, FLOPs, memory')
        rows[label] = _measure_alone(config, batch, options, setting)
    if setting.speed:
        for kind, contenders in (('train', _training_steps), ('inference', _predictions)):
            times = _interleave(kind, contenders(models, batch, options, setting), options)
            for label, values in times.items():
                rows[label][f'{kind}_ms'] = values
    return rows


def ratios(rows: Mapping[str, dict], reference: str, quantity: str) -> dict[str, dict[str, float]]:
    """Median and quartiles over rounds of a row's time over that of the reference in the same round."""
    under = np.array(rows[reference][quantity])
    summary = {}
    for label, row in rows.items():
        q1, median, q3 = np.percentile(np.array(row[quantity]) / under, (25, 50, 75)).tolist()
        summary[label] = dict(median=median, q1=q1, q3=q3)
    return summary


def _measure_alone(config: dict, batch: Batch, options: Options, setting: Setting) -> dict:
    model = _build(config, options)
    step = SegmentorStep(batch, model, bf16=setting.amp)
    # The first step makes gradients and Adam's moments, which every later one finds.
    step()
    moments = [value for state in step.optimizer.state.values() for value in state.values()]
    gradients = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
    held = held_mib([*model.parameters(), *model.buffers(), *gradients, *moments])
    peak = held + peak_mib(step, options.device)
    return dict(
        parameters=count_parameters(model),
        parameters_by_kind=parameters_by_kind(model),
        parts=list_parts(model),
        flops=count_flops(model, batch.images[:1]),
        peak_training_mib=peak,
        held_mib=held,
    )


def _training_steps(models: Mapping, batch: Batch, options: Options, setting: Setting) -> dict[str, Callable]:
    return {label: SegmentorStep(batch, _build(config, options), bf16=setting.amp) for label, config in models.items()}


def _predictions(models: Mapping, batch: Batch, options: Options, setting: Setting) -> dict[str, Callable]:
    dtype = torch.bfloat16 if setting.amp else torch.float32

    def prediction(config: dict) -> Callable:
        model = prepare_for_inference(_build(config, options).to(options.device), dtype=dtype)
        return torch.inference_mode()(lambda: model.predict_arrays(batch.images))

    return {label: prediction(config) for label, config in models.items()}


def _interleave(kind: str, contenders: Mapping[str, Callable], options: Options) -> dict[str, list[float]]:
    calls = 0
    warmup = 1

    def say() -> None:
        nonlocal calls
        if calls % len(contenders) == 0:
            _say(f'{kind}: round {calls // len(contenders) + 1} of {warmup + options.repeats}')
        calls += 1

    return interleave(contenders, options.repeats, warmup=warmup, device=options.device, prepare=say)


def _build(config: dict, options: Options) -> nn.Module:
    torch.manual_seed(options.seed)
    return MODELS.build(config)


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
