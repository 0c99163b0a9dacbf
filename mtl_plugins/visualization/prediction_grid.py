"""A picture of predictions: rows of image | label | prediction | depth | predicted depth | error."""

from collections.abc import Mapping, Sequence

import matplotlib
import numpy as np

from mtl_plugins.labels.cityscapes_classes import CLASSES, IGNORE_LABEL, PALETTE
from mtl_plugins.labels.depth_codec import DEPTH_MAX, DEPTH_MIN
from mtl_plugins.visualization.tiles import Colours, colour_labels, legend_of, render_tiles

INVALID = (40, 40, 40)
MAX_LOG_ERROR = np.log(2.0)
COLUMNS = ('image', 'label', 'prediction', 'depth', 'predicted depth', 'error')


def colour_values(values: np.ndarray, valid: np.ndarray, colormap: str) -> np.ndarray:
    """Colours ``(H, W, 3)`` of numbers in [0, 1]; grey where not valid."""
    table = (matplotlib.colormaps[colormap](np.linspace(0, 1, 256))[:, :3] * 255).round().astype(np.uint8)
    picture = table[(np.clip(values, 0, 1) * 255).astype(np.uint8)]
    picture[~valid] = INVALID
    return picture


def colour_depth(depth: np.ndarray) -> np.ndarray:
    """Colours ``(H, W, 3)`` of metres ``(H, W)`` on a logarithmic scale from 4 m (bright) to 300 m (dark); grey: unknown."""
    valid = depth > 0
    position = np.log(np.maximum(depth, DEPTH_MIN) / DEPTH_MIN) / np.log(DEPTH_MAX / DEPTH_MIN)
    return colour_values(1 - position, valid, 'magma')


def colour_error(
    labels: np.ndarray | None, predicted_labels: np.ndarray | None, depth: np.ndarray | None, predicted_depth: np.ndarray | None
) -> np.ndarray:
    """Colours ``(H, W, 3)``: depth error from dark (none) to yellow (a factor of 2 and more), wrong classes in cyan.

    The class error is drawn over the depth error; pixels without any label are grey.
    """
    shape = (labels if labels is not None else depth).shape
    picture = np.full((*shape, 3), INVALID, np.uint8)
    if depth is not None and predicted_depth is not None:
        valid = depth > 0
        error = np.abs(np.log(np.maximum(predicted_depth, 0.01)) - np.log(np.maximum(depth, 0.01)))
        picture = colour_values(error / MAX_LOG_ERROR, valid, 'inferno')
    if labels is not None and predicted_labels is not None:
        picture[(labels != IGNORE_LABEL) & (labels != predicted_labels)] = (0, 200, 220)
    return picture


def render_prediction_grid(
    rows: Sequence[Mapping[str, np.ndarray]],
    tile_width: int = 320,
    classes: Sequence[str] = CLASSES,
    palette: Colours = PALETTE,
) -> np.ndarray:
    """Draw one row per sample with a header and a legend.

    Args:
        rows: Each with ``image`` ``(H, W, 3)`` uint8 RGB and any of ``semseg``, ``pred_semseg`` (labels, ``(H, W)`` uint8),
            ``depth``, ``pred_depth`` (metres, ``(H, W)`` float, 0 = unknown).
        tile_width: Width of a picture in pixels.
        classes: Names of the labels.
        palette: Their colours.

    Returns:
        uint8 RGB ``(height, width, 3)``.

    Raises:
        ValueError: If there is no row.
    """
    tiles = [_tiles(row, palette) for row in rows]
    columns = [name for name in COLUMNS if any(name in row for row in tiles)]
    notes = []
    if 'depth' in columns or 'predicted depth' in columns:
        notes.append('depth: bright 4 m .. dark 300 m, log scale, grey unknown')
    if 'error' in columns:
        parts = {'prediction': 'cyan wrong class', 'predicted depth': 'dark .. yellow: depth off by a factor of 1 .. 2'}
        notes.append('error: ' + '; '.join(words for name, words in parts.items() if name in columns))
    with_labels = 'label' in columns or 'prediction' in columns
    legend = legend_of(classes, palette) if with_labels else ()
    return render_tiles(tiles, columns, tile_width=tile_width, legend=legend, notes=notes)


def _tiles(row: Mapping[str, np.ndarray], palette: Colours) -> dict[str, np.ndarray]:
    tiles = {'image': row['image']}
    if 'semseg' in row:
        tiles['label'] = colour_labels(row['semseg'], palette)
    if 'pred_semseg' in row:
        tiles['prediction'] = colour_labels(row['pred_semseg'], palette)
    if 'depth' in row:
        tiles['depth'] = colour_depth(row['depth'])
    if 'pred_depth' in row:
        tiles['predicted depth'] = colour_depth(row['pred_depth'])
    if {'semseg', 'pred_semseg'} <= row.keys() or {'depth', 'pred_depth'} <= row.keys():
        tiles['error'] = colour_error(row.get('semseg'), row.get('pred_semseg'), row.get('depth'), row.get('pred_depth'))
    return tiles
