"""Colours of labels and of numbers, and pictures of a kind of label: values in, colours ``(H, W, 3)`` uint8 out."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

INVALID = (40, 40, 40)


def colour_values(values: np.ndarray, valid: np.ndarray, colormap: str) -> np.ndarray:
    """Colours ``(H, W, 3)`` of numbers in [0, 1]; grey where not valid."""
    # Here, because a grader needs no pictures.
    import matplotlib

    table = (matplotlib.colormaps[colormap](np.linspace(0, 1, 256))[:, :3] * 255).round().astype(np.uint8)
    picture = table[(np.clip(values, 0, 1) * 255).astype(np.uint8)]
    picture[~valid] = INVALID
    return picture


# A name with a colour, or a note without.
Entry = tuple[str, tuple[int, ...] | None]


class ColourBar(NamedTuple):
    """Key to the colours ``(N, 3)`` uint8 of numbers, from left to right, with a title, and texts at places from 0 to 1."""

    title: str
    colours: np.ndarray
    ticks: list[tuple[float, str]]


def even_bar(title: str, colormap: str, numbers: Sequence[float]) -> ColourBar:
    """Return a bar of a colour map of matplotlib with evenly spaced ascending ``numbers``, from end to end."""
    colours = colour_values(np.linspace(0, 1, 256)[None], np.ones((1, 256), bool), colormap)[0]
    places = np.linspace(0, 1, len(numbers)).tolist()
    return ColourBar(title, colours, [(place, f'{number:g}') for place, number in zip(places, numbers, strict=True)])


class Pictures:
    """Colours of a label, of its errors, and the groups by which errors are analysed. By default grey, without errors."""

    unit: str | None = None
    """Of the values, as ``'m'``. Two values with a unit differ by their ratio, others by their difference."""

    error_note: str | None = None
    """A sentence on the colours of :meth:`draw_error`; None draws nothing."""

    error_rank = 0
    """Of the kinds that draw errors, the one of the highest rank below 0 draws all pixels, then those from 0 draw over it."""

    pixel_error_names: tuple[str, ...] = ()
    """Names of :meth:`pixel_errors`, with units. The first one ranks images: 0 is the best."""

    colour_errors_note: str | None = None
    """A sentence on the colours of :meth:`colour_errors`, unless they have an :meth:`error_bar`."""

    error_scale: tuple[str, float] | None = None
    """Title of the key to :meth:`colour_errors` and the largest error on it, for a kind that does not draw them itself."""

    group_title: str | None = None
    """Quantity of this label, such as its class, that groups the errors of all labels; None groups nothing."""

    @property
    def titles(self) -> tuple[str, str]:
        """Headings of the label and of the prediction."""
        return self.name, f'predicted {self.name}'

    def colour(self, values: np.ndarray) -> np.ndarray:
        """Return the colours of a map; by default grey, from its least to its largest value."""
        level = np.nan_to_num(values.astype(np.float32))
        level = level if level.ndim == 2 else level.mean(-1)
        return colour_values((level - level.min()) / max(np.ptp(level), 1e-12), np.ones(level.shape, bool), 'gray')

    def legend(self) -> list[Entry]:
        """Return names and colours."""
        return []

    def note(self) -> str | None:
        """Return a sentence on the colours."""
        return None

    def colour_bar(self) -> ColourBar | None:
        """Return the key to colours of numbers."""
        return None

    def draw_error(self, picture: np.ndarray, values: np.ndarray, prediction: np.ndarray) -> None:
        """Draw the differences into a picture of the errors, in place; kinds with an :attr:`error_note` do."""

    def pixel_errors(self, values: np.ndarray, prediction: np.ndarray) -> dict[str, np.ndarray]:
        """Return the errors of each pixel by name, ``(H, W)`` float64, NaN where the label does not count.

        Raises:
            ArgumentError: If the shapes differ or a predicted value is not finite.
        """
        return {}

    def error_bar(self) -> ColourBar | None:
        """Return the key to :meth:`colour_errors`, where the colours are numbers."""
        if self.error_scale is None:
            return None
        title, largest = self.error_scale
        return even_bar(title, 'inferno', (0, largest / 2, largest))

    def colour_errors(self, values: np.ndarray, prediction: np.ndarray) -> np.ndarray:
        """Return the colours ``(H, W, 3)`` of the first of :meth:`pixel_errors`: dark (none) to yellow, grey unknown."""
        error = next(iter(self.pixel_errors(values, prediction).values()))
        largest = self.error_scale[1] if self.error_scale else max(np.nanmax(error, initial=0), 1e-12)
        return colour_values(np.nan_to_num(error) / largest, ~np.isnan(error), 'inferno')

    def group_names(self) -> list[str]:
        """Return the names of the groups."""
        return []

    def group_edges(self) -> np.ndarray | None:
        """Return the ascending positive numbers around groups that are ranges, one more than groups."""
        return None

    def groups(self, values: np.ndarray) -> np.ndarray:
        """Return the group of each pixel, ``(H, W)`` integers; what is out of range belongs to none."""
        return np.zeros(values.shape[:2], np.int64)
