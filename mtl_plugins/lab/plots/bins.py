"""A picture of where a head puts its bins: image, prediction, and bins under the histogram of the values."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter

from mtl_plugins.labels.label_kind import LabelKind
from mtl_plugins.visualization.plots import to_array

COLUMNS = 3
NUM_CELLS = 40
TICKS = (1, 2, 5, 10, 20, 50, 100, 200, 300, 500)
_LABEL, _PREDICTION, _BINS = '#9aa0a6', '#d1495b', '#00527a'


def shares(values: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """Return per cent of the values in each cell; those outside count in the outer cells."""
    counts, _ = np.histogram(np.clip(values, edges[0], edges[-1]), edges)
    return 100 * counts / max(len(values), 1)


def render_bins(
    rows: Sequence[Mapping[str, np.ndarray]], kind: LabelKind, value_range: tuple[float, float], title: str | None = None
) -> np.ndarray:
    """Draw samples next to each other: image, prediction, histogram of its metres on a log axis, and the bins below it.

    Where a sample has labels, the histograms count labelled pixels only. Every bin is a tick at its metres, under the line of the
    share of bins per cell of the histogram.

    Args:
        rows: At least one, each with ``image`` ``(H, W, 3)`` uint8 RGB, ``prediction`` ``(H, W)`` metres, ``bins`` ``(K,)``
            metres and, if known, ``label`` ``(H, W)`` metres, 0 = unknown.
        value_range: Metres at the ends of the axis.
    """
    columns = min(COLUMNS, len(rows))
    blocks = -(-len(rows) // columns)
    height, width = rows[0]['image'].shape[:2]
    picture_height = 4.4 * height / width
    bar = kind.colour_bar()
    figure = Figure(figsize=(4.6 * columns, blocks * (2 * picture_height + 3.5)), dpi=110, layout='constrained')
    ratios = [picture_height, picture_height, 1.9, 1.0] * blocks
    axes = figure.subplots(4 * blocks, columns, squeeze=False, height_ratios=ratios)
    edges = np.geomspace(*value_range, NUM_CELLS + 1)
    for axis in axes.flat:
        axis.set_axis_off()
    for index, row in enumerate(rows):
        block, column = divmod(index, columns)
        image, prediction, histogram, ticks = axes[4 * block : 4 * block + 4, column]
        shown = kind.colour(row['prediction'])
        for axis, content, name in ((image, row['image'], 'image'), (prediction, shown, kind.titles[1])):
            axis.imshow(content, interpolation='antialiased')
            axis.set_title(name, fontsize=10, pad=3)
        _draw_histogram(histogram, row, edges)
        _draw_bins(ticks, row['bins'], edges)
        ticks.set_xlabel(bar.title if bar else kind.name)
        if column == 0:
            histogram.set_ylabel('pixels (%)')
            ticks.set_ylabel('bins (%)')
    if title:
        figure.suptitle(title, fontsize=12)
    return to_array(figure)


def _draw_histogram(axis, row: Mapping[str, np.ndarray], edges: np.ndarray) -> None:
    axis.set_axis_on()
    predicted = row['prediction'].ravel()
    if 'label' in row:
        known = row['label'] > 0
        predicted = row['prediction'][known]
        axis.stairs(shares(row['label'][known], edges), edges, fill=True, color=_LABEL, label='label')
    axis.stairs(shares(predicted, edges), edges, color=_PREDICTION, linewidth=1.6, label='prediction')
    _scale(axis, edges)
    axis.tick_params(labelbottom=False)
    axis.set_ylim(0, 1.2 * axis.get_ylim()[1])
    axis.legend(frameon=False, fontsize=9, loc='upper right', ncols=2, borderaxespad=0.1)


def _draw_bins(axis, bins: np.ndarray, edges: np.ndarray) -> None:
    axis.set_axis_on()
    density = shares(bins, edges)
    top = 1.4 * density.max()
    axis.vlines(bins, -0.4 * top, -0.05 * top, color=_BINS, linewidth=0.8, alpha=0.7)
    axis.stairs(density, edges, color=_BINS, linewidth=1.4)
    _scale(axis, edges)
    axis.set_ylim(-0.45 * top, top)
    axis.set_yticks([tick for tick in axis.get_yticks() if 0 <= tick <= top])
    text = f'{len(bins)} bins, {bins.min():.3g} to {bins.max():.3g} m'
    axis.text(0.99, 0.97, text, transform=axis.transAxes, ha='right', va='top', fontsize=9)


def _scale(axis, edges: np.ndarray) -> None:
    axis.set_xscale('log')
    axis.set_xlim(edges[0], edges[-1])
    ticks = [tick for tick in TICKS if edges[0] <= tick <= edges[-1]]
    axis.set_xticks(ticks, labels=[str(tick) for tick in ticks])
    axis.xaxis.set_minor_formatter(NullFormatter())
    axis.tick_params(labelsize=9)
    for side in ('top', 'right'):
        axis.spines[side].set_visible(False)
