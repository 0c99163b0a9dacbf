"""Runtimes of one trained model: how long they take, how far they agree with eager PyTorch, and how they score."""

import tempfile
from pathlib import Path

import numpy as np
from mmengine.config import Config
from torch import nn

from benchmarks.results import Measurement, Options, Ratio
from benchmarks.timing import interleave
from mtl_plugins.config.options import supports_bf16
from mtl_plugins.deployment import Runtime, load_runtime
from mtl_plugins.deployment.export import SUFFIXES, write
from mtl_plugins.deployment.parity import difference
from mtl_plugins.deployment.runtimes import TorchRuntime, describe
from mtl_plugins.errors import ConfigError, DataError
from mtl_plugins.evaluation.scores import title_of
from mtl_plugins.lab.int8 import load_calibration, score
from mtl_plugins.lab.tables import Table, to_plain
from mtl_plugins.synthetic.streets.street_scenes import render_sample

REFERENCE = 'eager float32'
# Training images for int8.
CALIBRATION_IMAGES = 100
# Calls before a timed one: threads of ONNX Runtime spin on after a call, and took a quarter of OpenVINO's time after them.
SETTLE = 2


def benchmark(
    model: nn.Module, config: Config, options: Options, *, size: tuple[int, int], batch_size: int, only: list[str] | None
) -> dict:
    """Measure the runtimes whose name holds one of the texts ``only``, and the reference; score the validation images.

    Returns ``settings``; ``runtimes`` by name, each with ``milliseconds``, ``times_as_fast``, ``agreement`` and ``scores``;
    ``left_out``, reasons by name.
    """
    calibration, no_data = None, ''
    try:
        calibration = load_calibration(config, model, CALIBRATION_IMAGES, 0.0)
    except (ConfigError, DataError) as error:
        no_data = str(error)
    images = np.stack([render_sample(0, 'val', index, size).image for index in range(batch_size)])
    runtimes, found, left_out = {}, {}, {}
    with tempfile.TemporaryDirectory() as folder:

        def export(name: str, precision: str) -> Runtime:
            if precision == 'int8' and calibration is None:
                raise ConfigError(f'no data to calibrate with: {no_data}')
            path = Path(folder) / f'{precision}{SUFFIXES[name]}'
            write(model, describe(model, precision=precision), path, calibration.images if calibration else ())
            return load_runtime(path, threads=options.threads)

        builders = {
            REFERENCE: lambda: TorchRuntime(model, device='cpu'),
            'eager bfloat16': lambda: TorchRuntime(model, device='cpu', precision='bfloat16'),
            'torch.compile float32': lambda: TorchRuntime(model, device='cpu', compiled=True),
            'torch.compile bfloat16': lambda: TorchRuntime(model, device='cpu', precision='bfloat16', compiled=True),
            'ONNX Runtime float32': lambda: export('onnx', 'float32'),
            'OpenVINO float32': lambda: export('openvino', 'float32'),
            'OpenVINO bfloat16': lambda: export('openvino', 'bfloat16'),
            'OpenVINO int8': lambda: export('openvino', 'int8'),
        }
        for name, build in builders.items():
            if name != REFERENCE and only and not any(text in name for text in only):
                continue
            try:
                if name.endswith('bfloat16') and not supports_bf16():
                    raise ConfigError('the processor does not compute in bfloat16')
                runtime = build()
                found[name] = runtime(images)
                runtimes[name] = runtime
            except Exception as error:
                # A package that is missing or a graph that fails takes one runtime with it.
                if name == REFERENCE:
                    raise
                left_out[name] = str(error).strip().splitlines()[0]
        calls = {name: lambda each=each: each(images) for name, each in runtimes.items()}
        measurement = Measurement('prediction', 'ms', interleave(calls, options.repeats, settle=SETTLE))
        rows = {}
        for name, runtime in runtimes.items():
            ratio = Ratio(name, measurement, REFERENCE, name).to_dict()
            rows[name] = dict(
                milliseconds=measurement.to_dict()['contenders'][name],
                times_as_fast={key: ratio[key] for key in ('value', 'low', 'high')},
                agreement=_agreement(runtime, found[name], found[REFERENCE]),
                scores=score(runtime, calibration.loader) if calibration else {},
            )
    return dict(settings=dict(size=size, batch_size=batch_size), runtimes=rows, left_out=left_out)


def _agreement(runtime: Runtime, found: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> dict[str, float]:
    """Return the share of equal classes, of other values the median difference, relative where they have a unit."""
    agreement = {}
    for name, kind in runtime.labels.items():
        if kind.is_class_map:
            agreement[name] = float((found[name] == expected[name]).mean())
        else:
            agreement[name] = float(np.median(difference(found[name], expected[name], relative=kind.unit is not None)))
    return agreement


def print_benchmark(document: dict) -> None:
    """Print a row per runtime, then the runtimes that are left out."""
    runtimes = document['runtimes']
    agreements, scores = (list(runtimes[REFERENCE][key]) for key in ('agreement', 'scores'))
    rows = []
    for name, row in runtimes.items():
        fast = row['times_as_fast']
        times = f'{row["milliseconds"]["median"]:.1f}', f'{fast["value"]:.2f}', f'{fast["low"]:.2f} - {fast["high"]:.2f}'
        agreement = (f'{row["agreement"][each]:.3g}' for each in agreements)
        rows.append([name, *times, *agreement, *(f'{row["scores"][each]:.2f}' for each in scores)])
    print(to_plain(Table(['runtime', 'ms', 'times as fast', 'quartiles', *agreements, *map(title_of, scores)], rows)))
    print('Named after labels: the share of equal classes, or the median difference of other values, to eager float32.')
    for name, reason in document['left_out'].items():
        print(f'{name} is left out: {reason}')
