"""Large images in tiles that overlap and pass evenly into each other."""

from collections.abc import Callable, Iterator, Mapping
from itertools import groupby

import numpy as np

from mtl_plugins.errors import ConfigError

# Tiles start at multiples of it, where the grids of networks up to stride 32 have their places.
ALIGNMENT = 32

Maps = dict[str, np.ndarray]
Predict = Callable[[np.ndarray], Mapping[str, np.ndarray]]
Mix = Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]


def count_pixels(height: int, width: int) -> int:
    """Return how many pixels a network computes for an image: its maps are made of whole cells."""
    return -(-height // ALIGNMENT) * -(-width // ALIGNMENT) * ALIGNMENT**2


def check_tile(tile: int | None, overlap: int | None) -> tuple[int | None, int]:
    """Return the side of tiles and their overlap, a quarter of the side by default, if both can be used."""
    if tile is None:
        if overlap is not None:
            raise ConfigError(f'`overlap` should be given with `tile`. Found {overlap} alone.')
        return None, 0
    if tile < 2 * ALIGNMENT or tile % ALIGNMENT:
        raise ConfigError(f'`tile` should be a multiple of {ALIGNMENT} from {2 * ALIGNMENT}. Found {tile}.')
    overlap = max(tile // 4 // ALIGNMENT, 1) * ALIGNMENT if overlap is None else overlap
    if not ALIGNMENT <= overlap <= tile // 2 or overlap % ALIGNMENT:
        raise ConfigError(f'`overlap` should be a multiple of {ALIGNMENT} up to half of `tile`. Found {overlap}, tile {tile}.')
    return tile, overlap


def windows(length: int, tile: int, overlap: int) -> list[tuple[int, int]]:
    """Return start and end of the tiles along an axis, which overlap by ``overlap`` at least; the last is up to 31 shorter."""
    if length <= tile:
        return [(0, length)]
    last = -(-(length - tile) // ALIGNMENT) * ALIGNMENT
    starts = [*range(0, last, tile - overlap), last]
    return [(start, min(start + tile, length)) for start in starts]


def predict_in_tiles(
    image: np.ndarray, predict: Predict, mixes: Mapping[str, Mix], *, tile: int, overlap: int, batch_size: int
) -> Maps:
    """Predict an image tile by tile.

    Where two tiles overlap, the outer quarters of the overlap, near the edge of a tile, are taken from the other one, and in
    between one passes evenly into the other. A network that sees no farther than a quarter of the overlap predicts the same as
    of the whole image. Memory is that of the result and a row of tiles.

    Args:
        image: ``(H, W, 3)``.
        predict: Of a batch of tiles ``(N, h, w, 3)``: maps ``(N, h, w)`` or ``(N, h, w, C)`` by name.
        mixes: By name, as :meth:`LabelKind.mix`.
        tile: Side of the tiles.
        overlap: Of neighbours, at least.
        batch_size: Tiles at a time.

    Returns:
        Maps ``(H, W)`` or ``(H, W, C)`` by name.
    """
    height, width = image.shape[:2]
    whole: Maps = {}
    covered = 0
    for top, bottom in windows(height, tile, overlap):
        row: Maps = {}
        right = 0
        for left, end, maps in _predict_row(image[top:bottom], predict, tile, overlap, batch_size):
            for name, part in maps.items():
                target = row.setdefault(name, np.empty((bottom - top, width, *part.shape[2:]), part.dtype))
                # Along the columns.
                _lay(target.swapaxes(0, 1), part.swapaxes(0, 1), left, right, mixes[name])
            right = end
        for name, part in row.items():
            target = whole.setdefault(name, np.empty((height, *part.shape[1:]), part.dtype))
            _lay(target, part, top, covered, mixes[name])
        covered = bottom
    return whole


def _predict_row(
    strip: np.ndarray, predict: Predict, tile: int, overlap: int, batch_size: int
) -> Iterator[tuple[int, int, Maps]]:
    """Give start, end and maps of the tiles of a strip from left to right."""
    places = windows(strip.shape[1], tile, overlap)
    for _, same in groupby(places, key=lambda place: place[1] - place[0]):
        same = list(same)
        for first in range(0, len(same), batch_size):
            batch = same[first : first + batch_size]
            maps = predict(np.stack([strip[:, left:right] for left, right in batch]))
            for number, place in enumerate(batch):
                yield *place, {name: each[number] for name, each in maps.items()}


def _lay(target: np.ndarray, part: np.ndarray, start: int, covered: int, mix: Mix) -> None:
    """Put a part at its place along the first axis of ``target``, of which the first ``covered`` rows are there already."""
    lap = max(covered - start, 0)
    if lap:
        share = np.clip(2 * (np.arange(lap) + 0.5) / lap - 0.5, 0, 1)[:, None]
        target[start:covered] = mix(target[start:covered], part[:lap], share)
    target[start + lap : start + len(part)] = part[lap:]
