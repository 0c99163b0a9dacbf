"""What a benchmark measured: raw numbers, and the ratios between contenders beside their targets."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np


@dataclass(frozen=True)
class Options:
    """How a benchmark runs.

    Attributes:
        threads: Of torch, and of the data and submission workers.
        repeats: Rounds that count.
        quick: Tiny inputs: checks that everything runs, says nothing about speed.
        device: Where models run.
        seed: Of scenes and weights.
        processor_time: Whether training steps and inference are timed by the processor seconds of this process.
    """

    threads: int = 2
    repeats: int = 11
    quick: bool = False
    device: str = 'cpu'
    seed: int = 0
    processor_time: bool = False


@dataclass(frozen=True)
class Measurement:
    """One quantity of several contenders; entry i of each list comes from round i.

    Attributes:
        name: Of the quantity.
        unit: Of the numbers; less is better.
        raw: Numbers by contender.
    """

    name: str
    unit: str
    raw: dict[str, list[float]]

    def median(self, contender: str) -> float:
        return float(np.median(self.raw[contender]))

    def best_of(self, contenders: Sequence[str]) -> str:
        """The contender with the least median."""
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

    Attributes:
        name: What it says, in words.
        target: None where the ratio is for information only.
        bound: ``'least'`` or ``'most'``: the side on which the target lies.
        difference: Subtract instead of dividing.
    """

    name: str
    measurement: Measurement = field(repr=False)
    numerator: str
    denominator: str
    target: float | None = None
    bound: str = 'least'
    difference: bool = False

    def combine(self, numerator: float, denominator: float) -> float:
        return numerator - denominator if self.difference else numerator / denominator

    def to_dict(self) -> dict:
        """``low`` and ``high`` are the quartiles over rounds: both contenders of a round met the same conditions."""
        raw = self.measurement.raw
        value = self.combine(self.measurement.median(self.numerator), self.measurement.median(self.denominator))
        rounds = [self.combine(a, b) for a, b in zip(raw[self.numerator], raw[self.denominator], strict=True)]
        low, high = np.percentile(rounds, (25, 75)).tolist()
        met = None if self.target is None else bool(value >= self.target if self.bound == 'least' else value <= self.target)
        return dict(
            name=self.name,
            measurement=self.measurement.name,
            kind='difference' if self.difference else 'ratio',
            numerator=self.numerator,
            denominator=self.denominator,
            value=value,
            low=low,
            high=high,
            target=self.target,
            bound=self.bound,
            met=met,
        )


@dataclass(frozen=True)
class Result:
    """Everything that one benchmark says; ``settings`` holds sizes and counts."""

    name: str
    settings: dict
    measurements: list[Measurement]
    ratios: list[Ratio]

    def to_dict(self) -> dict:
        return dict(
            name=self.name,
            settings=self.settings,
            measurements=[measurement.to_dict() for measurement in self.measurements],
            ratios=[ratio.to_dict() for ratio in self.ratios],
        )
