"""Statistics of a split: exact where every quantity is a function of 8-bit values, whose 256 counts tell all of it."""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

import numpy as np

from mtl_plugins.datasets.packing.packed import Sample
from mtl_plugins.labels.counts import mean_and_std
from mtl_plugins.labels.label_kind import LabelKind

_VALUES = np.arange(256, dtype=np.float64)


class Histograms(NamedTuple):
    """Counts over a split: ``rgb`` ``(3, 256)`` int64, and of each label, by name, what :meth:`LabelKind.count` gives."""

    num_images: int
    rgb: np.ndarray
    labels: dict[str, np.ndarray]


def collect_histograms(samples: Iterable[Sample], labels: Mapping[str, LabelKind]) -> Histograms:
    """Count the values of samples with ``img`` and, as far as present, the stored maps of the labels."""
    rgb = np.zeros((3, 256), np.int64)
    counts: dict[str, np.ndarray] = {}
    num_images = 0
    for sample in samples:
        num_images += 1
        for channel in range(3):
            rgb[channel] += np.bincount(sample['img'][..., channel].ravel(), minlength=256)
        for name, kind in labels.items():
            if kind.key in sample:
                counts[name] = counts.get(name, 0) + kind.count(sample[kind.key])
    return Histograms(num_images, rgb, counts)


def summarise(histograms: Histograms, labels: Mapping[str, LabelKind]) -> dict:
    """Statistics as plain numbers.

    Returns:
        ``num_images``; ``rgb``: ``mean`` and ``std`` on 0..255 and ``mean_unit`` and ``std_unit`` on 0..1, three channels each;
        and for each label that there is, by name, what :meth:`LabelKind.summarise` gives. Moments over no pixel are NaN.
    """
    channels = [mean_and_std(_VALUES, counts) for counts in histograms.rgb]
    means, stds = ([float(value) for value in column] for column in zip(*channels, strict=True))
    return dict(
        num_images=histograms.num_images,
        rgb=dict(mean=means, std=stds, mean_unit=[value / 255 for value in means], std_unit=[value / 255 for value in stds]),
        **{name: labels[name].summarise(counts) for name, counts in histograms.labels.items()},
    )


def format_table(summary: Mapping, labels: Mapping[str, LabelKind]) -> str:
    """The summary as text for people."""
    rows = [('images', f'{summary["num_images"]}')]
    for key, unit, digits in (('', '0..255', 3), ('_unit', '0..1', 4)):
        for moment in ('mean', 'std'):
            rows.append((f'rgb {moment} ({unit})', '  '.join(f'{value:.{digits}f}' for value in summary['rgb'][moment + key])))
    for name, kind in labels.items():
        if name in summary:
            rows += kind.summary_rows(summary[name])
    width = max(len(name) for name, _ in rows)
    return '\n'.join(f'{name:<{width}}  {value}' for name, value in rows)
