"""Runtimes of one trained model: how long they take, how far they agree with eager PyTorch, and how they score."""

import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
from mmengine.config import Config
from torch import nn

from benchmarks.results import Measurement, Options, Ratio, print_table
from benchmarks.timing import interleave
from mtl_plugins.config.options import supports_bf16
from mtl_plugins.deployment import Runtime, load_runtime
from mtl_plugins.deployment.description import describe
from mtl_plugins.deployment.export import Calibration, load_calibration, score
from mtl_plugins.deployment.parity import difference
from mtl_plugins.deployment.runtimes.torch_runtime import TorchRuntime
from mtl_plugins.deployment.writing import SUFFIXES, write
from mtl_plugins.errors import ConfigError, DataError
from mtl_plugins.evaluation.scores import title_of
from mtl_plugins.synthetic.streets.street_scenes import render_sample

REFERENCE = 'eager float32'
_EXPORTED = {
    'torch.export float32': ('torch', 'float32'),
    'ONNX Runtime float32': ('onnx', 'float32'),
    'ONNX Runtime int8': ('onnx', 'int8'),
    'OpenVINO float32': ('openvino', 'float32'),
    'OpenVINO bfloat16': ('openvino', 'bfloat16'),
    'OpenVINO int8': ('openvino', 'int8'),
}
# Calls before a timed one: threads of ONNX Runtime spin on after a call, and took a quarter of OpenVINO's time after them.
SETTLE = 2
# Least times as fast as eager PyTorch that the best runtime of a kind should be.
TARGETS = {'float32': 2.0, 'bfloat16 or int8': 4.0}


def benchmark(
    model: nn.Module,
    config: Config,
    options: Options,
    *,
    size: tuple[int, int] = (256, 512),
    batch_size: int = 1,
    only: list[str] | None = None,
    score_images: int | None = None,
    calibration_images: int = 100,
) -> dict:
    """Measure all runtimes.

    Args:
        model: A trained :class:`MultiTaskSegmentor`.
        config: Its config, which names the data.
        options: How.
        size: Height and width of the images.
        batch_size: Images per call.
        only: Texts, one of which the name of a runtime holds; None for all. The reference always runs.
        score_images: Validation images that are scored; None for all.
        calibration_images: Training images for int8.

    Returns:
        ``settings``; ``runtimes`` by name, each with ``milliseconds``, ``times_as_fast``, ``agreement`` and ``scores``;
        ``left_out``, reasons by name; ``targets``.
    """
    settings = dict(size=size, batch_size=batch_size, only=only, score_images=score_images, calibration_images=calibration_images)
    calibration, no_data = None, ''
    try:
        calibration = load_calibration(config, model, calibration_images, 0.0)
    except (ConfigError, DataError) as error:
        no_data = str(error)
    images = np.stack([render_sample(0, 'val', index, size).image for index in range(batch_size)])
    with tempfile.TemporaryDirectory() as folder:
        runtimes, left_out = _build(model, only, options, calibration, no_data, Path(folder), images)
        found = {name: runtime(images) for name, runtime in runtimes.items()}
        calls = {name: lambda each=each: each(images) for name, each in runtimes.items()}
        measurement = Measurement('prediction', 'ms', interleave(calls, options.repeats, settle=SETTLE))
        rows = {}
        for name, runtime in runtimes.items():
            ratio = Ratio(name, measurement, REFERENCE, name).to_dict()
            rows[name] = dict(
                milliseconds=measurement.to_dict()['contenders'][name],
                times_as_fast={key: ratio[key] for key in ('value', 'low', 'high')},
                agreement=_agreement(runtime, found[name], found[REFERENCE]),
                scores=score(runtime, calibration.loader, score_images) if calibration else {},
            )
    return dict(settings=settings, runtimes=rows, left_out=left_out, targets=_targets(rows))


def _build(
    model: nn.Module,
    only: list[str] | None,
    options: Options,
    calibration: Calibration | None,
    no_data: str,
    folder: Path,
    images: np.ndarray,
) -> tuple[dict[str, Runtime], dict[str, str]]:
    """The runtimes by name, each called once, and why others are left out."""
    builders: dict[str, Callable[[], Runtime]] = {
        REFERENCE: lambda: TorchRuntime(model, device='cpu'),
        'eager bfloat16': lambda: TorchRuntime(model, device='cpu', precision='bfloat16'),
        'torch.compile float32': lambda: TorchRuntime(model, device='cpu', compiled=True),
        'torch.compile bfloat16': lambda: TorchRuntime(model, device='cpu', precision='bfloat16', compiled=True),
    }
    for name, (form, precision) in _EXPORTED.items():
        builders[name] = lambda form=form, precision=precision: _exported(
            model, precision, calibration, folder / f'{form}_{precision}{SUFFIXES[form]}', options.threads
        )
    runtimes, left_out = {}, {}
    for name, build in builders.items():
        if name != REFERENCE and only and not any(text in name for text in only):
            continue
        if name.endswith('bfloat16') and not supports_bf16():
            left_out[name] = 'the processor does not compute in bfloat16'
        elif name.endswith('int8') and calibration is None:
            left_out[name] = f'no data to calibrate with: {no_data}'
        else:
            try:
                runtime = build()
                runtime(images)
                runtimes[name] = runtime
            except Exception as error:
                left_out[name] = f'{type(error).__name__}: {str(error).strip().splitlines()[0]}'
    if REFERENCE not in runtimes:
        raise ConfigError(f'The model should predict {images.shape[1]}x{images.shape[2]} in PyTorch: {left_out[REFERENCE]}')
    return runtimes, left_out


def _exported(model: nn.Module, precision: str, calibration: Calibration | None, path: Path, threads: int) -> Runtime:
    write(model, describe(model, precision=precision), path, calibration.images if calibration else ())
    return load_runtime(path, threads=threads)


def _agreement(runtime: Runtime, found: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> dict[str, float]:
    """Of classes the share of equal pixels, of other values the median difference, relative where they have a unit."""
    agreement = {}
    for name, kind in runtime.labels.items():
        if kind.is_class_map:
            agreement[name] = float((found[name] == expected[name]).mean())
        else:
            agreement[name] = float(np.median(difference(found[name], expected[name], relative=kind.unit is not None)))
    return agreement


def _targets(rows: dict[str, dict]) -> dict[str, dict]:
    """Of each target the fastest runtime and whether it reached it."""
    targets = {}
    for kind, target in TARGETS.items():
        names = [name for name in rows if name != REFERENCE and any(name.endswith(word) for word in kind.split(' or '))]
        if names:
            best = max(names, key=lambda name: rows[name]['times_as_fast']['value'])
            value = rows[best]['times_as_fast']['value']
            targets[kind] = dict(target=target, best=best, value=value, met=bool(value >= target))
    return targets


def print_benchmark(document: dict) -> None:
    """Print a row per runtime, then what is left out and the targets."""
    runtimes, settings = document['runtimes'], document['settings']
    agreements, scores = (list(runtimes[REFERENCE][key]) for key in ('agreement', 'scores'))
    rows = []
    for name, row in runtimes.items():
        fast = row['times_as_fast']
        times = f'{row["milliseconds"]["median"]:.1f}', f'{fast["value"]:.2f}', f'{fast["low"]:.2f} - {fast["high"]:.2f}'
        agreement = (f'{row["agreement"][each]:.3g}' for each in agreements)
        rows.append((name, *times, *agreement, *(f'{row["scores"][each]:.2f}' for each in scores)))
    titles = (title_of(name) for name in scores)
    title = f'{settings["batch_size"]} x {settings["size"][0]}x{settings["size"][1]}, {document["provenance"]["threads"]} threads'
    console = print_table(('runtime', 'ms', 'times as fast', 'quartiles', *agreements, *titles), rows, title)
    console.print('Named after labels: the share of equal classes, or the median difference of other values, to eager float32.')
    for name, reason in document['left_out'].items():
        console.print(f'{name} is left out: {reason}')
    for kind, row in document['targets'].items():
        met = 'met' if row['met'] else 'not met'
        console.print(f'{kind}: {row["best"]} is {row["value"]:.2f} times as fast, target {row["target"]:g}: {met}')
