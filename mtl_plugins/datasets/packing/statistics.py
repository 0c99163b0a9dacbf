"""Statistics of a split: exact where every quantity is a function of 8-bit values, whose 256 counts tell all of it."""

import time
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from mtl_plugins.datasets.packing.packed import Sample
from mtl_plugins.labels.label_kind import LabelKind, mean_and_std


def describe_labels(dataset: Any, max_samples: int = 100, seconds: float = 1.0) -> tuple[list[str], list[str]]:
    """Describe the labels of a data set, one line each, and likely mistakes, one sentence each.

    Reads labels as the data set does, of samples all over it, until there are ``max_samples`` or the time is over. Of data sets
    without ``labels`` and ``read_labels``, and of what wraps data sets, those within count.
    """
    within = getattr(dataset, 'datasets', None) or [getattr(dataset, 'dataset', None)]
    if not hasattr(dataset, 'read_labels'):
        parts = [describe_labels(each, max_samples, seconds / len(within)) for each in within if each is not None]
        return [line for lines, _ in parts for line in lines], [doubt for _, doubts in parts for doubt in doubts]
    end, total = time.monotonic() + seconds, len(dataset)
    positions = np.unique(np.linspace(0, total - 1, min(total, max_samples)).round().astype(int))
    counts: dict[str, np.ndarray] = {}
    samples: Counter[str] = Counter()
    num_seen = 0
    # In an order that is spread over the whole from its start.
    for position in np.random.default_rng(0).permutation(positions).tolist():
        for name, stored in dataset.read_labels(position).items():
            counts[name] = counts.get(name, 0) + dataset.labels[name].count(stored)
            samples[name] += 1
        num_seen += 1
        if time.monotonic() > end:
            break
    place = f'{num_seen} of {total} training samples' if num_seen < total else f'{total} training samples'
    lines, doubts = [], []
    for name, kind in dataset.labels.items():
        if name not in counts:
            doubts.append(f'{name}: none of {place} has this label.')
            continue
        lacking = f', {num_seen - samples[name]} of which lack it' if samples[name] < num_seen else ''
        lines.append(f'{name}, in {place}{lacking}: {kind.contents(counts[name])}')
        doubts += [f'{name}, in {place}: {each}' for each in kind.doubts(counts[name], num_seen == total)]
    return lines, doubts


def summarise(samples: Iterable[Sample], labels: Mapping[str, LabelKind]) -> dict:
    """Count the values of samples with ``img`` and, as far as present, the stored maps of the labels.

    Returns:
        ``num_images``; ``rgb``: ``mean`` and ``std`` on 0..255 and ``mean_unit`` and ``std_unit`` on 0..1, three channels each;
        and for each label that there is, by name, what :meth:`LabelKind.summarise` gives. Moments over no pixel are NaN.
    """
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
    means, stds = zip(*(mean_and_std(np.arange(256, dtype=np.float64), channel) for channel in rgb), strict=True)
    moments = dict(mean=list(means), std=list(stds))
    moments |= {f'{name}_unit': [value / 255 for value in values] for name, values in moments.items()}
    return dict(num_images=num_images, rgb=moments, **{name: labels[name].summarise(each) for name, each in counts.items()})


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
