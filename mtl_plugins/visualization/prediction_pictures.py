"""Pictures of what is predicted of an image without labels."""

from collections.abc import Mapping

import numpy as np

from mtl_plugins.labels.label_kind import LabelKind
from mtl_plugins.visualization.prediction_grid import titles_of
from mtl_plugins.visualization.tiles import render_tiles

# How much of a class's colour covers the image.
OPACITY = 0.6
NARROWEST, WIDEST = 480, 1280
TILE_WIDTH = 480


def colour_over(image: np.ndarray, values: np.ndarray, kind: LabelKind) -> np.ndarray:
    """Colours ``(H, W, 3)`` of predicted values; those of classes let the image through."""
    colours = kind.colour(values)
    if not kind.is_class_map:
        return colours
    return (image * np.float32(1 - OPACITY) + colours * np.float32(OPACITY)).round().astype(np.uint8)


def render_prediction(image: np.ndarray, values: np.ndarray, kind: LabelKind) -> np.ndarray:
    """Draw the prediction of one label, as wide as the image within 480 to 1280 pixels, with its legend or bar: uint8 RGB."""
    width = min(max(image.shape[1], NARROWEST), WIDEST)
    return _render(image, {kind.name: values}, {kind.name: kind}, width, with_image=False)


def render_side_by_side(image: np.ndarray, values: Mapping[str, np.ndarray], labels: Mapping[str, LabelKind]) -> np.ndarray:
    """Draw the image ``(H, W, 3)`` and its predictions, by name of the label, in a row, with legend and bars: uint8 RGB."""
    return _render(image, values, labels, TILE_WIDTH, with_image=True)


def _render(
    image: np.ndarray, values: Mapping[str, np.ndarray], labels: Mapping[str, LabelKind], width: int, with_image: bool
) -> np.ndarray:
    titles = {name: titles_of(name, labels[name], labels)[1] for name in values}
    row = {'image': image, **{titles[name]: colour_over(image, each, labels[name]) for name, each in values.items()}}
    kinds = [labels[name] for name in values]
    bars = [bar for kind in kinds if (bar := kind.colour_bar())]
    # A bar says what a note would.
    notes = [note for kind in kinds if kind.colour_bar() is None and (note := kind.note())]
    return render_tiles(
        [row],
        [*(['image'] if with_image else []), *titles.values()],
        tile_width=width,
        legend=[entry for kind in kinds for entry in kind.legend()],
        notes=notes,
        smooth=('image', *(titles[name] for name in values if labels[name].is_class_map)),
        bars=bars,
    )
