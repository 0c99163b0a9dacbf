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


def describe_legend(entries: Sequence[Entry], bar: ColourBar | None, note: str | None) -> dict:
    """Return a legend for the script of a page: ``entries`` and ``bar`` with colours of CSS, and ``note``."""
    shown = None
    if bar is not None:
        chosen = np.linspace(0, len(bar.colours) - 1, 24).round().astype(int)
        colours = [f'rgb({red},{green},{blue})' for red, green, blue in np.asarray(bar.colours)[chosen].tolist()]
        shown = dict(title=bar.title, colours=colours, ticks=[[round(place, 4), text] for place, text in bar.ticks])
    named = [[name, None if colour is None else f'rgb({",".join(map(str, colour))})'] for name, colour in entries]
    return dict(entries=named, bar=shown, note=note)


class Pictures:
    """Colours of a label and of its errors. By default grey, without errors."""

    unit: str | None = None
    """Of the values, as ``'m'``. Two values with a unit differ by their ratio, others by their difference."""

    error_note: str | None = None
    """A sentence on the colours of :meth:`draw_error`; None draws nothing."""

    @property
    def titles(self) -> tuple[str, str]:
        """Headings of the label and of the prediction."""
        return self.name, f'predicted {self.name}'

    def colour(self, values: np.ndarray) -> np.ndarray:
        """Return the colours ``(H, W, 3)`` uint8 of values; by default grey, from their least to their largest."""
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

    def error_bar(self) -> ColourBar | None:
        """Return the key to the colours of :meth:`draw_error`, where they are numbers; it replaces :attr:`error_note`."""
        return None

    def draw_error(self, picture: np.ndarray, values: np.ndarray, prediction: np.ndarray) -> None:
        """Draw the differences into a picture ``(H, W, 3)`` uint8, in place; kinds with an :attr:`error_note` do."""
