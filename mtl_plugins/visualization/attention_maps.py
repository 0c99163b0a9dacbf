"""Pictures of where a class looks: its attention over the image, beside label and prediction."""

from collections.abc import Mapping, Sequence

import cv2
import numpy as np

from mtl_plugins.labels.colours import colour_values
from mtl_plugins.labels.label_kind import LabelKind
from mtl_plugins.visualization.prediction_grid import label_tiles
from mtl_plugins.visualization.tiles import render_tiles

# Share of the attention's colours in the picture, where there is none and where there is most; the rest is the image in grey.
SHARES = (0.3, 0.75)
NOTE = 'attention: dark .. yellow, from 0 to the most attended place of the image'


def crop_attention(attention: np.ndarray, padded_size: tuple[int, int], size: tuple[int, int]) -> np.ndarray:
    """The cells of coarse maps ``(N, h, w)`` of a padded image that the image of ``size`` at its top left touches."""
    height, width = (
        -(-side * cells // padded) for side, cells, padded in zip(size, attention.shape[-2:], padded_size, strict=True)
    )
    return attention[:, :height, :width]


def overlay_attention(image: np.ndarray, attention: np.ndarray, frame: Sequence[int] | None = None) -> np.ndarray:
    """Colours ``(H, W, 3)`` of coarse attention ``(h, w)`` over the image ``(H, W, 3)`` in grey, with a frame of a colour.

    The scale starts at 0, so that an even attention is bright everywhere and not noise.
    """
    height, width = image.shape[:2]
    heat = cv2.resize(np.ascontiguousarray(attention, np.float32), (width, height), interpolation=cv2.INTER_LINEAR)
    heat = heat / max(heat.max(), np.finfo(np.float32).tiny)
    colours = colour_values(heat, np.ones(heat.shape, bool), 'inferno')
    share = (SHARES[0] + (SHARES[1] - SHARES[0]) * heat)[..., None]
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)[..., None]
    picture = (share * colours + (1 - share) * grey).round().astype(np.uint8)
    if frame is not None:
        edge = max(min(picture.shape[:2]) // 40, 1)
        inside = picture[edge:-edge, edge:-edge].copy()
        picture[:] = frame
        picture[edge:-edge, edge:-edge] = inside
    return picture


def render_attention_grid(rows: Sequence[Mapping], labels: Mapping[str, LabelKind], tile_width: int = 180) -> np.ndarray:
    """Draw one row per sample: image, label, prediction, and the attention of each class over the image.

    Args:
        rows: As :func:`~mtl_plugins.visualization.prediction_grid.render_prediction_grid` takes them, with ``attention`` ``(N, h,
            w)`` of the classes after the first.
        labels: The kind of the one label, by its name: a class map.
        tile_width: Width of a picture in pixels.

    Returns:
        uint8 RGB ``(height, width, 3)``.
    """
    (kind,) = labels.values()
    tiles = []
    for row in rows:
        tiles.append(label_tiles(row, labels))
        looks = zip(kind.classes[1:], row['attention'], strict=True)
        tiles[-1].update({f'attention: {name}': overlay_attention(row['image'], attention) for name, attention in looks})
    columns = list(dict.fromkeys(name for row in tiles for name in row))
    smooth = [name for name in columns if name not in kind.titles]
    return render_tiles(tiles, columns, tile_width=tile_width, legend=kind.legend(), notes=[NOTE], smooth=smooth)
