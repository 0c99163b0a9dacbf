"""A picture of predictions: rows of image | label | prediction | depth | predicted depth | error."""

from collections.abc import Mapping, Sequence

import cv2
import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from mtl_plugins.datasets.cityscapes_classes import CLASSES, IGNORE_LABEL, PALETTE
from mtl_plugins.datasets.depth_codec import DEPTH_MAX, DEPTH_MIN

MARGIN = 4
BACKGROUND = (255, 255, 255)
INVALID = (40, 40, 40)
MAX_LOG_ERROR = np.log(2.0)
COLUMNS = ('image', 'label', 'prediction', 'depth', 'predicted depth', 'error')

_PALETTE = np.zeros((256, 3), np.uint8)
_PALETTE[: len(PALETTE)] = PALETTE


def colour_labels(labels: np.ndarray) -> np.ndarray:
    """Cityscapes colours ``(H, W, 3)`` of a label map ``(H, W)``; ignored pixels are black."""
    return _PALETTE[labels]


def _colour(values: np.ndarray, valid: np.ndarray, colormap: str) -> np.ndarray:
    table = (matplotlib.colormaps[colormap](np.linspace(0, 1, 256))[:, :3] * 255).round().astype(np.uint8)
    picture = table[(np.clip(values, 0, 1) * 255).astype(np.uint8)]
    picture[~valid] = INVALID
    return picture


def colour_depth(depth: np.ndarray) -> np.ndarray:
    """Colours ``(H, W, 3)`` of metres ``(H, W)`` on a logarithmic scale from 4 m (bright) to 300 m (dark); grey: unknown."""
    valid = depth > 0
    position = np.log(np.maximum(depth, DEPTH_MIN) / DEPTH_MIN) / np.log(DEPTH_MAX / DEPTH_MIN)
    return _colour(1 - position, valid, 'magma')


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
        picture = _colour(error / MAX_LOG_ERROR, valid, 'inferno')
    if labels is not None and predicted_labels is not None:
        picture[(labels != IGNORE_LABEL) & (labels != predicted_labels)] = (0, 200, 220)
    return picture


def render_prediction_grid(rows: Sequence[Mapping[str, np.ndarray]], tile_width: int = 320) -> np.ndarray:
    """Draw one row per sample with a header and a legend.

    Args:
        rows: Each with ``image`` ``(H, W, 3)`` uint8 RGB and any of ``semseg``, ``pred_semseg`` (labels, ``(H, W)`` uint8),
            ``depth``, ``pred_depth`` (metres, ``(H, W)`` float, 0 = unknown).
        tile_width: Width of a picture in pixels.

    Returns:
        uint8 RGB ``(height, width, 3)``.

    Raises:
        ValueError: If there is no row.
    """
    if not rows:
        raise ValueError('`rows` should hold at least one sample. Found none.')
    tiles = [_tiles(row) for row in rows]
    columns = [name for name in COLUMNS if any(name in row for row in tiles)]
    height, width = rows[0]['image'].shape[:2]
    tile_height = round(tile_width * height / width)
    header, legend = 26, 52
    canvas_width = MARGIN + len(columns) * (tile_width + MARGIN)
    canvas = np.full((header + len(rows) * (tile_height + MARGIN) + legend, canvas_width, 3), BACKGROUND, np.uint8)
    for y, row in enumerate(tiles):
        top = header + y * (tile_height + MARGIN)
        for x, name in enumerate(columns):
            if name in row:
                smooth = cv2.INTER_AREA if name == 'image' else cv2.INTER_NEAREST
                left = MARGIN + x * (tile_width + MARGIN)
                canvas[top : top + tile_height, left : left + tile_width] = cv2.resize(
                    row[name], (tile_width, tile_height), interpolation=smooth
                )
    picture = Image.fromarray(canvas)
    draw = ImageDraw.Draw(picture)
    font = ImageFont.load_default(16)
    for x, name in enumerate(columns):
        draw.text((MARGIN + x * (tile_width + MARGIN) + tile_width / 2, header / 2), name, fill='black', font=font, anchor='mm')
    _draw_legend(draw, canvas.shape[0] - legend + 4, canvas_width, columns)
    return np.asarray(picture)


def _tiles(row: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    tiles = {'image': row['image']}
    if 'semseg' in row:
        tiles['label'] = colour_labels(row['semseg'])
    if 'pred_semseg' in row:
        tiles['prediction'] = colour_labels(row['pred_semseg'])
    if 'depth' in row:
        tiles['depth'] = colour_depth(row['depth'])
    if 'pred_depth' in row:
        tiles['predicted depth'] = colour_depth(row['pred_depth'])
    if {'semseg', 'pred_semseg'} <= row.keys() or {'depth', 'pred_depth'} <= row.keys():
        tiles['error'] = colour_error(row.get('semseg'), row.get('pred_semseg'), row.get('depth'), row.get('pred_depth'))
    return tiles


def _draw_legend(draw: ImageDraw.ImageDraw, top: int, width: int, columns: Sequence[str]) -> None:
    font = ImageFont.load_default(12)
    x, y = MARGIN, top
    notes = []
    if 'depth' in columns or 'predicted depth' in columns:
        notes.append('depth: bright 4 m .. dark 300 m, log scale, grey unknown')
    if 'error' in columns:
        notes.append('error: cyan wrong class; dark .. yellow: depth off by a factor of 1 .. 2')
    entries = []
    if 'label' in columns or 'prediction' in columns:
        entries = [(name, colour) for name, colour in zip(CLASSES, PALETTE, strict=True)]
    for name, colour in entries:
        needed = 18 + draw.textlength(name, font=font) + 10
        if x + needed > width:
            x, y = MARGIN, y + 16
        draw.rectangle((x, y, x + 12, y + 12), fill=colour)
        draw.text((x + 16, y + 6), name, fill='black', font=font, anchor='lm')
        x += needed
    if notes:
        draw.text((MARGIN, y + 24), '   |   '.join(notes), fill='black', font=font, anchor='lm')
