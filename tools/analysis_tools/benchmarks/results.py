"""Results of a benchmark: raw numbers, ratios next to their targets, provenance; for terminal, JSON and Markdown."""

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from mtl_plugins.errors import ConfigError
from mtl_plugins.lab.tables import Table, to_markdown, to_plain
from mtl_plugins.records.provenance import measured_here

ROOT = Path(__file__).resolve().parents[3]
_PEERS = ('segmentation-models-pytorch', 'opencv-python', 'pillow', 'onnxruntime', 'openvino', 'nncf')
_MET = {None: '', True: 'yes', False: 'NO'}
_SIGNS = dict(least='>=', most='<=')


@dataclass(frozen=True)
class Options:
    """The settings of a benchmark: threads of torch and of the data workers, rounds that count, device, seed.

    ``quick`` inputs are tiny: that checks that everything runs, and says nothing about speed. ``processor_time`` times training
    steps and inference by the processor seconds of this process.
    """

    threads: int = 2
    repeats: int = 11
    quick: bool = False
    device: str = 'cpu'
    seed: int = 0
    processor_time: bool = False

    def check(self) -> None:
        """Raise `ConfigError` if there is no such device; warn if the machine is busy."""
        if self.device != 'cpu' and not (self.device.startswith('cuda') and torch.cuda.is_available()):
            raise ConfigError(f'`--device` should be cpu, or cuda on a machine with CUDA. Found {self.device}.')
        load, cores = os.getloadavg()[0], os.cpu_count()
        if load > cores / 2:
            print(f'The machine is busy (load {load:.1f} on {cores} cores): expect noise.', file=sys.stderr)


@dataclass(frozen=True)
class Measurement:
    """One quantity of several contenders, less being better; entry i of each list of ``raw`` comes from round i."""

    name: str
    unit: str
    raw: dict[str, list[float]]

    def median(self, contender: str) -> float:
        return float(np.median(self.raw[contender]))

    def best_of(self, contenders: Sequence[str]) -> str:
        """Return the contender with the least median."""
        return min(contenders, key=self.median)

    def to_dict(self) -> dict:
        summaries = {}
        for contender, values in self.raw.items():
            least, lower, median, upper, most = np.percentile(values, (0, 25, 50, 75, 100)).tolist()
            summaries[contender] = dict(median=median, q1=lower, q3=upper, min=least, max=most, raw=list(values))
        return dict(name=self.name, unit=self.unit, contenders=summaries)


@dataclass(frozen=True)
class Ratio:
    """Median of ``numerator`` over median of ``denominator``, two contenders of one measurement.

    ``target`` is None where the ratio is for information only; ``bound`` the side on which it lies, ``'least'`` or ``'most'``.
    """

    name: str
    measurement: Measurement = field(repr=False)
    numerator: str
    denominator: str
    target: float | None = None
    bound: str = 'least'

    def to_dict(self) -> dict:
        """Return all fields; ``low`` and ``high`` are quartiles over rounds, whose contenders met the same conditions."""
        raw = self.measurement.raw
        value = self.measurement.median(self.numerator) / self.measurement.median(self.denominator)
        low, high = np.percentile(np.divide(raw[self.numerator], raw[self.denominator]), (25, 75)).tolist()
        met = None if self.target is None else bool(value >= self.target if self.bound == 'least' else value <= self.target)
        return {**vars(self), 'measurement': self.measurement.name, 'value': value, 'low': low, 'high': high, 'met': met}


@dataclass(frozen=True)
class Result:
    """All numbers of one benchmark; ``settings`` holds sizes and counts."""

    name: str
    settings: dict
    measurements: list[Measurement]
    ratios: list[Ratio]

    def to_dict(self) -> dict:
        parts = {key: [each.to_dict() for each in getattr(self, key)] for key in ('measurements', 'ratios')}
        return dict(name=self.name, settings=self.settings, **parts)


def provenance(options: Options) -> dict:
    """Return :func:`measured_here` and the options."""
    settings = {name: getattr(options, name) for name in ('threads', 'repeats', 'quick', 'seed')}
    return measured_here(options.device, _PEERS) | settings


def provenance_in_words(made: dict, distributions: Sequence[str]) -> str:
    """Return one sentence on where and how numbers were made, with the versions of some distributions."""
    versions = ', '.join(f'{name} {made["versions"].get(name)}' for name in distributions)
    changes = ' with uncommitted changes' if made['uncommitted_changes'] else ''
    return (
        f'Commit {(made["commit"] or "unknown")[:10]}{changes}, {made["date"]}, {made["cpu"]} ({made["cpu_capability"]}, '
        f'{made["cpu_cores"]} cores), device {made["device"]}, {made["threads"]} threads, {made["repeats"]} rounds, load before '
        f'{made["load_average"]:.1f}; {versions}.'
    )


def print_result(result: dict) -> None:
    """Print one benchmark of the JSON document: a table per measurement, then the ratios."""
    keys = ('median', 'q1', 'q3', 'min', 'max')
    for measurement in result['measurements']:
        rows = [[name, *(_number(row[key]) for key in keys)] for name, row in measurement['contenders'].items()]
        print(f'\n{result["name"]}: {measurement["name"]} ({measurement["unit"]}, less is better)')
        print(to_plain(Table(['contender', *keys], rows)), end='')
    print(f'\n{to_plain(_ratio_table([result]))}', end='')


def ratios_in_markdown(document: dict) -> str:
    """Return the ratios of all benchmarks of the JSON document as one Markdown table under a line of provenance."""
    words = provenance_in_words(document['provenance'], ('torch', 'onedl-mmsegmentation', 'segmentation-models-pytorch'))
    return f'{words}\n\n{to_markdown(_ratio_table(document["benchmarks"]))}'


def _ratio_table(benchmarks: Sequence[dict]) -> Table:
    rows = []
    for benchmark in benchmarks:
        for ratio in benchmark['ratios']:
            target = '' if ratio['target'] is None else f'{_SIGNS[ratio["bound"]]} {ratio["target"]:g}'
            quartiles = f'{_number(ratio["low"])} - {_number(ratio["high"])}'
            rows.append([benchmark['name'], ratio['name'], _number(ratio['value']), quartiles, target, _MET[ratio['met']]])
    return Table(['benchmark', 'ratio', 'median', 'quartiles', 'target', 'met'], rows)


def _number(value: float) -> str:
    return f'{value:.0f}' if abs(value) >= 1000 else f'{value:.3g}'
