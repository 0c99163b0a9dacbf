"""Statistics of a split: exact, because every quantity is a function of 8-bit values and 256 counts tell all of it."""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from mtl_plugins.datasets.packing.packed import Sample
from mtl_plugins.labels.cityscapes_classes import CLASSES, IGNORE_LABEL
from mtl_plugins.labels.depth_codec import DECODE_TABLE

_VALUES = np.arange(256, dtype=np.float64)
DEPTH_REPRESENTATIONS = dict(metres=lambda depth: depth, log=np.log, inverse=np.reciprocal)


class Histograms(NamedTuple):
    """How often each 8-bit value occurs: ``rgb`` ``(3, 256)``, ``semseg`` and ``depth`` ``(256,)``, all int64."""

    num_images: int
    rgb: np.ndarray
    semseg: np.ndarray
    depth: np.ndarray


def collect_histograms(samples: Iterable[Sample]) -> Histograms:
    """Count the values of samples with ``img`` and, as far as present, ``gt_seg_map`` and ``gt_depth_map``."""
    rgb = np.zeros((3, 256), np.int64)
    labels = dict(gt_seg_map=np.zeros(256, np.int64), gt_depth_map=np.zeros(256, np.int64))
    num_images = 0
    for sample in samples:
        num_images += 1
        for channel in range(3):
            rgb[channel] += np.bincount(sample['img'][..., channel].ravel(), minlength=256)
        for key, counts in labels.items():
            if key in sample:
                counts += np.bincount(sample[key].ravel(), minlength=256)
    return Histograms(num_images, rgb, labels['gt_seg_map'], labels['gt_depth_map'])


def mean_and_std(values: np.ndarray, counts: np.ndarray) -> tuple[float, float]:
    """Mean and population standard deviation (divisor N) of ``values`` that occur ``counts`` times; NaN for no value."""
    total = counts.sum()
    if total == 0:
        return float('nan'), float('nan')
    mean = (values * counts).sum() / total
    return float(mean), float(np.sqrt((np.square(values - mean) * counts).sum() / total))


def summarise(histograms: Histograms) -> dict:
    """Statistics as plain numbers.

    Returns:
        ``num_images``; ``rgb``: ``mean`` and ``std`` on 0..255 and ``mean_unit`` and ``std_unit`` on 0..1, three channels each.
        If there are depth maps, ``depth``: ``metres``, ``log`` (natural logarithm of metres) and ``inverse`` (1 / metres), each
        with ``mean`` and ``std`` over the valid pixels, and ``invalid_share`` of all pixels. If there are labels, ``semseg``:
        ``frequencies``, the share of each class among the pixels that count, and ``ignored_share`` of all pixels. Shares and
        moments over no pixel are NaN.
    """
    channels = [mean_and_std(_VALUES, counts) for counts in histograms.rgb]
    means, stds = ([float(value) for value in column] for column in zip(*channels, strict=True))
    summary = dict(
        num_images=histograms.num_images,
        rgb=dict(mean=means, std=stds, mean_unit=[value / 255 for value in means], std_unit=[value / 255 for value in stds]),
    )
    if histograms.depth.any():
        summary['depth'] = {}
        for name, transform in DEPTH_REPRESENTATIONS.items():
            mean, std = mean_and_std(transform(DECODE_TABLE[1:]), histograms.depth[1:])
            summary['depth'][name] = dict(mean=mean, std=std)
        summary['depth']['invalid_share'] = float(histograms.depth[0] / histograms.depth.sum())
    if histograms.semseg.any():
        counts = histograms.semseg[: len(CLASSES)]
        shares = counts / counts.sum() if counts.any() else np.full(len(CLASSES), np.nan)
        summary['semseg'] = dict(
            frequencies=dict(zip(CLASSES, shares.tolist(), strict=True)),
            ignored_share=float(histograms.semseg[IGNORE_LABEL] / histograms.semseg.sum()),
        )
    return summary


def format_table(summary: dict) -> str:
    """The summary as text for people."""
    rows = [('images', f'{summary["num_images"]}')]
    for key, unit, digits in (('', '0..255', 3), ('_unit', '0..1', 4)):
        for moment in ('mean', 'std'):
            rows.append((f'rgb {moment} ({unit})', '  '.join(f'{value:.{digits}f}' for value in summary['rgb'][moment + key])))
    for name, moments in summary.get('depth', {}).items():
        if name == 'invalid_share':
            rows.append(('depth, invalid pixels', f'{100 * moments:.3f} %'))
        else:
            rows.append((f'depth, {name}', f'mean {moments["mean"]:.6f}  std {moments["std"]:.6f}'))
    if 'semseg' in summary:
        rows.append(('semseg, ignored pixels', f'{100 * summary["semseg"]["ignored_share"]:.3f} %'))
        rows += [(f'semseg, {name}', f'{100 * share:.3f} %') for name, share in summary['semseg']['frequencies'].items()]
    width = max(len(name) for name, _ in rows)
    return '\n'.join(f'{name:<{width}}  {value}' for name, value in rows)
