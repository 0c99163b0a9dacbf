"""Tiles for extended surfaces: ground, walls, house fronts, foliage. All wrap around."""

import cv2
import numpy as np

from mtl_plugins.synthetic.streets.atlas import Atlas

FACADE_WALL, FACADE_GLASS, FACADE_TRIM, FACADE_DOOR, FACADE_CURTAIN = range(5)


def smooth_noise(rng: np.random.Generator, size: int, exponent: float) -> np.ndarray:
    """``(size, size)`` float32 noise that tiles: spectrum ``1 / frequency^exponent``, mean 0, standard deviation 1."""
    frequency = np.hypot(np.fft.fftfreq(size)[:, None], np.fft.rfftfreq(size)[None]) * size
    spectrum = np.fft.rfft2(rng.standard_normal((size, size))) / np.maximum(frequency, 1) ** exponent
    spectrum[0, 0] = 0
    noise = np.fft.irfft2(spectrum, s=(size, size))
    return (noise / noise.std()).astype(np.float32)


def add_surfaces(atlas: Atlas, rng: np.random.Generator) -> None:
    """Every tile of this module under its name."""
    _add_ground(atlas, rng)
    _add_masonry(atlas, rng)
    _add_facades(atlas, rng)
    for _ in range(3):
        leaves = 122 + 26 * smooth_noise(rng, 128, 0.9) + 14 * smooth_noise(rng, 128, 0.1)
        atlas.add('leaves', leaves, (smooth_noise(rng, 128, 0.8) > 0.4).astype(np.uint8))


def _add_ground(atlas: Atlas, rng: np.random.Generator) -> None:
    for patches in (3, 4, 6, 9):
        atlas.add('asphalt', 126 + 7 * smooth_noise(rng, 256, 0.0) + patches * smooth_noise(rng, 256, 1.2))
    cobbles = _joints(rng, 256, rows=32, columns=32, depth=30, spread=13, shifted=True)
    atlas.add('asphalt', cobbles)
    for columns, spread in ((8, 4), (4, 7), (16, 9)):
        slabs = _joints(rng, 256, rows=8, columns=columns, depth=30, spread=spread, shifted=columns != 4)
        atlas.add('slabs', slabs + 3 * smooth_noise(rng, 256, 0.3) + 5 * smooth_noise(rng, 256, 1.3))
    atlas.add('curb', _joints(rng, 64, rows=1, columns=4, depth=40, spread=8) + 4 * smooth_noise(rng, 64, 0.3))
    for _ in range(2):
        grass = 120 + 22 * smooth_noise(rng, 256, 0.25) + 16 * smooth_noise(rng, 256, 1.4)
        atlas.add('grass', grass, (smooth_noise(rng, 256, 1.1) > 0.9).astype(np.uint8))


def _joints(
    rng: np.random.Generator, size: int, rows: int, columns: int, depth: float, spread: float, shifted: bool = False
) -> np.ndarray:
    """Stones in rows with dark joints between them; each stone a little lighter or darker than the next."""
    stone = 128 + spread * rng.standard_normal((rows, columns))
    y, x = np.mgrid[:size, :size]
    row = y * rows // size
    x = (x + (row % 2) * (size // columns // 2) * shifted) % size
    luminance = stone[row, x * columns // size]
    joint = max(1, size // 128)
    luminance[(y % (size // rows) < joint) | (x % (size // columns) < joint)] -= depth
    return luminance


def _add_masonry(atlas: Atlas, rng: np.random.Generator) -> None:
    grain = smooth_noise(rng, 128, 0.2)
    atlas.add('brick', _joints(rng, 128, rows=16, columns=8, depth=-26, spread=13, shifted=True) + 4 * grain)
    atlas.add('stone', _joints(rng, 128, rows=8, columns=4, depth=34, spread=15, shifted=True) + 6 * grain)
    panels = _joints(rng, 128, rows=1, columns=2, depth=38, spread=5)
    atlas.add('concrete', panels + 5 * grain + 9 * smooth_noise(rng, 128, 1.4))
    atlas.add('plain', 128 + 2 * grain)
    roof = _joints(rng, 64, rows=8, columns=8, depth=30, spread=10, shifted=True)
    roof += np.linspace(16, -16, 8)[np.arange(64) % 8][:, None]
    atlas.add('roof', roof)
    atlas.add('planks', _joints(rng, 64, rows=1, columns=8, depth=60, spread=9) + 5 * smooth_noise(rng, 64, 0.6))


def _add_facades(atlas: Atlas, rng: np.random.Generator) -> None:
    """One storey and one bay per tile: 'bay' with a window, 'shop' and 'entrance' for the ground floor, 'blind' without."""
    grounds = (
        lambda: 128 + 3 * smooth_noise(rng, 64, 0.4),
        lambda: _joints(rng, 64, rows=16, columns=4, depth=-20, spread=9, shifted=True),
        lambda: _joints(rng, 64, rows=4, columns=2, depth=18, spread=5, shifted=True),
    )
    for variant in range(18):
        luminance, material = grounds[variant % 3](), np.zeros((64, 64), np.uint8)
        half = int(rng.integers(10, 22))
        top, bottom = int(rng.integers(6, 14)), int(rng.integers(42, 54))
        if variant % 6 == 5:
            half, top, bottom = 31, 14, 50
        _window(luminance, material, (32 - half, 32 + half), (top, bottom), panes=int(rng.integers(1, 4)), rng=rng)
        if variant % 4 == 1:
            for x in (32 - half - 7, 32 + half):
                luminance[top:bottom, x : x + 7] = 110 + 30 * (np.arange(bottom - top) % 4 < 2)[:, None]
                material[top:bottom, x : x + 7] = FACADE_DOOR
        if variant % 5 == 2:
            luminance[bottom - 8 : bottom + 3, 6:58] = 60 + 90 * (np.arange(52) % 4 < 2)[None]
            material[bottom - 8 : bottom + 3, 6:58] = FACADE_DOOR
        luminance[61:] *= 0.8
        atlas.add('bay', luminance, material)
    for variant in range(8):
        luminance, material = 0.9 * grounds[variant % 3](), np.zeros((64, 64), np.uint8)
        _window(luminance, material, (4, 60), (16, 56), panes=int(rng.integers(1, 4)), rng=rng)
        luminance[5:16, 2:62] = 118 + 40 * ((np.arange(60) // 5) % 2)[None] * (variant % 2)
        material[5:16, 2:62] = FACADE_DOOR
        atlas.add('shop', luminance, material)
        luminance, material = grounds[variant % 3](), np.zeros((64, 64), np.uint8)
        _window(luminance, material, (20, 44), (6, 14), panes=2, rng=rng)
        luminance[14:64, 20:44] = 110 + 20 * (np.arange(24) % 12 > 1)[None]
        material[14:64, 20:44] = FACADE_DOOR
        luminance[4:64, (18, 19, 44, 45)], material[4:64, (18, 19, 44, 45)] = 140, FACADE_TRIM
        atlas.add('entrance', luminance, material)
    for ground in grounds:
        atlas.add('blind', ground())


def _window(
    luminance: np.ndarray,
    material: np.ndarray,
    across: tuple[int, int],
    down: tuple[int, int],
    panes: int,
    rng: np.random.Generator,
) -> None:
    (left, right), (top, bottom) = across, down
    frame = (slice(max(top - 3, 0), bottom + 3), slice(max(left - 3, 0), right + 3))
    luminance[frame], material[frame] = 135, FACADE_TRIM
    luminance[bottom + 2 : bottom + 4, max(left - 3, 0) : right + 3] = 70
    shine = np.linspace(175, 95, bottom - top)[:, None] + np.linspace(-18, 18, right - left)[None] * rng.choice([-1, 1])
    luminance[top:bottom, left:right], material[top:bottom, left:right] = shine, FACADE_GLASS
    luminance[top : top + 2, left:right] *= 0.55
    for k in range(1, panes):
        x = left + (right - left) * k // panes
        luminance[top:bottom, x : x + 2], material[top:bottom, x : x + 2] = 130, FACADE_TRIM
    if panes > 1:
        y = top + (bottom - top) // 3
        luminance[y : y + 1, left:right], material[y : y + 1, left:right] = 130, FACADE_TRIM


def cloud_tile(rng: np.random.Generator, size: int = 512) -> np.ndarray:
    """``(size, size)`` float32 in 0..1 for clouds."""
    noise = smooth_noise(rng, size, 1.7)
    return cv2.GaussianBlur(np.clip(0.5 + 0.32 * noise, 0, 1), (3, 3), 0)
