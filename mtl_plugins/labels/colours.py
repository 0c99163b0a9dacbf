"""Colours of label maps and of numbers."""

from collections.abc import Sequence

import numpy as np

from mtl_plugins.labels.cityscapes_classes import PALETTE

INVALID = (40, 40, 40)

Colours = Sequence[Sequence[int]]


def make_palette(num_classes: int) -> list[list[int]]:
    """RGB colours that differ: class 0 black, the bits of the others spread over the channels, as PASCAL VOC does."""
    bits = [[number >> bit & 1 for bit in range(8)] for number in range(num_classes)]
    return [[sum(row[k + channel] << (7 - k // 3) for k in range(0, 8 - channel, 3)) for channel in range(3)] for row in bits]


def ignored_colour(palette: Colours) -> tuple[int, int, int]:
    """Black, or a pale yellow where black is a class."""
    return (224, 224, 192) if [0, 0, 0] in [list(colour) for colour in palette] else (0, 0, 0)


def colour_labels(labels: np.ndarray, palette: Colours = PALETTE) -> np.ndarray:
    """Colours ``(H, W, 3)`` of a label map ``(H, W)``, Cityscapes' by default; ignored pixels: :func:`ignored_colour`."""
    table = np.full((256, 3), ignored_colour(palette), np.uint8)
    table[: len(palette)] = palette
    return table[labels]


def legend_of(classes: Sequence[str], palette: Colours) -> list[tuple[str, tuple[int, ...] | None]]:
    """Names and colours of the classes; that of ignored pixels too, unless it is plain black."""
    entries = [(name, tuple(colour)) for name, colour in zip(classes, palette, strict=True)]
    ignored = ignored_colour(palette)
    return entries if ignored == (0, 0, 0) else [*entries, ('ignored', ignored)]


def colour_values(values: np.ndarray, valid: np.ndarray, colormap: str) -> np.ndarray:
    """Colours ``(H, W, 3)`` of numbers in [0, 1]; grey where not valid."""
    # Here, because a grader needs no pictures.
    import matplotlib

    table = (matplotlib.colormaps[colormap](np.linspace(0, 1, 256))[:, :3] * 255).round().astype(np.uint8)
    picture = table[(np.clip(values, 0, 1) * 255).astype(np.uint8)]
    picture[~valid] = INVALID
    return picture
